//! The configuration of `freshgate health`: where the operators' listener is.

use std::net::SocketAddr;

use super::{
    environment::Environment,
    listen,
    report::{Problem, Report},
    setting, sources,
};

/// Reads where the gate listens for operators, from where the gate itself reads it. Nothing else is looked at: what is wrong
/// with it, the gate says.
///
/// # Errors
/// A report that says it is nowhere, or not an address.
pub fn load_health(health: &crate::cli::Health, environment: &Environment) -> Result<SocketAddr, Report> {
    let mut report = Report::default();
    let common = crate::cli::Common {
        operator_listen: health.operator_listen.clone(),
        config: health.config.clone(),
        ..Default::default()
    };
    let sources = sources(&common, Vec::new(), environment, &mut report);
    let Some(given) = sources.find(setting::OPERATOR_LISTEN, &mut report) else {
        if !report.has_errors() {
            report.add(Problem::error("nothing says where the gate listens for operators").help(
                "start the gate with `--operator-listen ADDR:PORT`, and name the same here, or set FRESHGATE_OPERATOR_LISTEN for both",
            ));
        }
        return Err(report);
    };
    listen::read(&given, &mut report).ok_or(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::Health,
        config::{Look, tests::Case},
    };

    fn asked(case: &Case, flag: Option<&str>) -> Result<String, String> {
        let health = Health { operator_listen: flag.map(str::to_owned), config: None };
        load_health(&health, &case.environment())
            .map(|address| address.to_string())
            .map_err(|report| report.render(Look::Plain))
    }

    #[test]
    fn it_is_read_from_where_the_gate_reads_it() {
        let toml = "[operator]\nlisten = \"127.0.0.1:9501\"\n";
        assert_eq!(asked(&Case::with_freshgate_toml(toml), None).unwrap(), "127.0.0.1:9501");
        let case = Case::with_freshgate_toml(toml).variable("FRESHGATE_OPERATOR_LISTEN", "127.0.0.1:9502");
        assert_eq!(asked(&case, None).unwrap(), "127.0.0.1:9502");
        assert_eq!(asked(&case, Some("127.0.0.1:9503")).unwrap(), "127.0.0.1:9503");
        // What is wrong elsewhere is in nobody's way.
        let case = Case::with_secrets("nonsense").variable("FRESHGATE_OPERATOR_LISTEN", "127.0.0.1:9502");
        assert_eq!(asked(&case, None).unwrap(), "127.0.0.1:9502");
        assert!(asked(&Case::new(), None).unwrap_err().contains("nothing says where"));
        assert!(asked(&Case::new(), Some("9501")).unwrap_err().contains("expected ADDRESS:PORT"));
    }
}
