//! libFuzzer with the target that `FUZZ_TARGET` names. Started by `scripts/fuzz`.

#![no_main]

use std::sync::OnceLock;

use freshgate_fuzz::Target;

static TARGET: OnceLock<&'static Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        let target = freshgate_fuzz::target(&name);
        TARGET.get_or_init(|| target.unwrap_or_else(|| panic!("FUZZ_TARGET names no target: {name:?}")));
    },
    |bytes: &[u8]| {
        if let Some(target) = TARGET.get() {
            (target.run)(bytes);
        }
    }
);
