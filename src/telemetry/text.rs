//! The two text formats that Prometheus reads.

/// `Content-Type` of OpenMetrics.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// `Content-Type` of the older format, which also tools other than Prometheus read.
pub const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Turns OpenMetrics text into the older format: there a counter's name ends with `_total` in its description too, an info is a gauge,
/// and units and the end have no line.
pub fn to_prometheus(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let lines: Vec<_> = openmetrics.lines().collect();
    let kind_of = |name: &str| {
        let kinds = lines.iter().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        kinds.into_iter().find(|(of, _)| *of == name).map_or("", |(_, kind)| kind)
    };
    let suffix = |name: &str| match kind_of(name) {
        "counter" => "_total",
        "info" => "_info",
        _ => "",
    };
    for line in &lines {
        let described =
            ["# HELP ", "# TYPE "].iter().find_map(|kind| Some((*kind, line.strip_prefix(kind)?)));
        match described.and_then(|(kind, rest)| Some((kind, rest.split_once(' ')?))) {
            Some((kind, (name, rest))) => {
                let rest = if kind == "# TYPE " && rest == "info" { "gauge" } else { rest };
                text += &format!("{kind}{name}{} {rest}\n", suffix(name));
            }
            None if line.starts_with('#') => {}
            None => text += &format!("{line}\n"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_infos_get_their_names_and_the_rest_stays() {
        let openmetrics = "# HELP a_b A b.\n# TYPE a_b counter\na_b_total{p=\"x\"} 3\n# HELP c_seconds C.\n# TYPE c_seconds gauge\n\
                           # UNIT c_seconds seconds\nc_seconds 1\n# HELP d D.\n# TYPE d info\nd_info{v=\"1\"} 1\n# EOF\n";
        assert_eq!(
            to_prometheus(openmetrics),
            "# HELP a_b_total A b.\n# TYPE a_b_total counter\na_b_total{p=\"x\"} 3\n# HELP c_seconds C.\n# TYPE c_seconds gauge\n\
             c_seconds 1\n# HELP d_info D.\n# TYPE d_info gauge\nd_info{v=\"1\"} 1\n"
        );
    }
}
