//! What the layer counts, through the `metrics` facade. Labels are names of routes, never a user or an address.

use metrics::{counter, describe_counter};

use crate::route::Ours;

const TOO_OFTEN: &str = "freshgate_requests_too_often_total";

/// Tells the recorder what each figure means. Call it once, when the recorder is there.
pub fn describe() {
    describe_counter!(TOO_OFTEN, "Requests to the gate's own routes that came too often from one client");
}

/// A request was refused because its client asks too often.
pub(crate) fn too_often(route: Ours) {
    counter!(TOO_OFTEN, "route" => route.path()).increment(1);
}
