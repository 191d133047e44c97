//! Metrics of devices and durable calls, `/metrics`, in Prometheus' text format 0.0.4.
//!
//! Names follow Prometheus' conventions: base units, `_total` for counters since the host started.
//!
//! Not here: the counting (`inference`). Invariant: no label has values that a client chooses.

use std::fmt::Write;

use http::{HeaderValue, Response, header};

use super::respond::{ResponseBody, full_body};
use crate::inference::DeviceStats;

/// Returns the metrics.
pub fn response(stats: &DeviceStats, (waiting, maps): (usize, usize), quarantined: usize) -> Response<ResponseBody> {
    let mut text = exposition(stats);
    text.gauge("bireme_durable_calls_waiting", "Durable calls that have not begun, or wait for another attempt")
        .sample(&[], waiting);
    text.gauge("bireme_durable_maps_open", "Durable maps that have not ended").sample(&[], maps);
    text.gauge("bireme_quarantined_rows", "Rows that cannot be read; their calls and maps are neither run nor shown")
        .sample(&[], quarantined);
    let mut response = Response::new(full_body(text.text));
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

fn exposition(stats: &DeviceStats) -> Exposition {
    let mut text = Exposition::default();
    text.gauge("bireme_build_info", "1, with the version of this host")
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    text.counter("bireme_worker_starts_total", "Workers that were started").sample(&[], stats.worker_starts);
    text.counter("bireme_worker_deaths_total", "Workers that ended by themselves, or because they hung")
        .sample(&[], stats.worker_deaths);
    text.counter("bireme_batches_total", "Batches that ran").sample(&[], stats.batches);
    text.counter("bireme_batches_failed_total", "Batches that failed or were lost, each time")
        .sample(&[], stats.batches_failed);
    text.counter("bireme_batch_rows_total", "Rows of the batches that ran").sample(&[], stats.rows);
    text.counter("bireme_batch_tokens_total", "Tokens of the batches that ran").sample(&[], stats.tokens);
    text.counter("bireme_device_seconds_total", "Time that batches took on the device")
        .sample(&[], stats.device_us as f64 / 1e6);
    let cuts = [
        ("drained", stats.cut_drained),
        ("rows", stats.cut_rows),
        ("tokens", stats.cut_tokens),
        ("enough", stats.cut_enough),
        ("delay", stats.cut_delay),
        ("retry", stats.cut_retry),
    ];
    let family = text.counter("bireme_batch_cuts_total", "Batches, by why they were not larger");
    cuts.iter().for_each(|(reason, count)| family.sample(&[("reason", reason)], count));
    let failed = [("overloaded", stats.refused), ("deadline", stats.expired), ("rejected", stats.rejected)];
    let family =
        text.counter("bireme_inference_requests_failed_total", "Requests to models that no batch answered, by why");
    failed.iter().for_each(|(reason, count)| family.sample(&[("reason", reason)], count));
    text.counter("bireme_model_loads_total", "Models that were loaded onto a device").sample(&[], stats.loads);
    text.counter("bireme_model_unloads_total", "Models that were taken off a device").sample(&[], stats.unloads);
    text.counter(
        "bireme_device_checks_total",
        "Times that a device was asked to compute something to show that it can",
    )
    .sample(&[], stats.checks);
    text.gauge("bireme_inference_queue_bytes", "Bytes held for requests to models").sample(&[], stats.queue_bytes);
    let family = text.gauge("bireme_model_waiting_rows", "Rows that wait for a batch");
    stats.models.iter().for_each(|model| family.sample(&[("model", &model.name)], model.waiting_rows));
    let family = text.gauge("bireme_model_workers", "Workers that hold the model");
    stats.models.iter().for_each(|model| family.sample(&[("model", &model.name)], model.loaded));
    let family = text.gauge("bireme_model_memory_bytes", "Bytes that the model takes on each device that holds it");
    stats.models.iter().for_each(|model| family.sample(&[("model", &model.name)], model.memory_bytes));
    text
}

/// Text so far, and the metric family that samples are added to.
#[derive(Default)]
struct Exposition {
    text: String,
    name: &'static str,
}

impl Exposition {
    fn counter(&mut self, name: &'static str, help: &str) -> &mut Self {
        self.family(name, help, "counter")
    }

    fn gauge(&mut self, name: &'static str, help: &str) -> &mut Self {
        self.family(name, help, "gauge")
    }

    fn family(&mut self, name: &'static str, help: &str, kind: &str) -> &mut Self {
        self.name = name;
        writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("a string takes everything");
        self
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.text.push_str(self.name);
        for (index, (name, label)) in labels.iter().enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            let label = label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            write!(self.text, "{name}=\"{label}\"").expect("a string takes everything");
        }
        self.text.push_str(if labels.is_empty() { "" } else { "}" });
        writeln!(self.text, " {value}").expect("a string takes everything");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::inference::ModelStats;

    /// Parses an exposition strictly by its grammar: samples by name and labels.
    fn parse(text: &str) -> BTreeMap<String, f64> {
        let (mut samples, mut families) = (BTreeMap::new(), Vec::new());
        let is_name = |name: &str| {
            let mut bytes = name.bytes();
            bytes.next().is_some_and(|byte| byte.is_ascii_lowercase())
                && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        };
        assert!(text.ends_with('\n'));
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap();
                assert!(is_name(name) && !help.is_empty() && !families.contains(&name), "{line}");
                families.push(name);
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert_eq!(families.last(), Some(&name));
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                assert!(matches!(kind, "counter" | "gauge"), "{line}");
            } else {
                let (name, value) = line.rsplit_once(' ').unwrap();
                let family = name.split('{').next().unwrap();
                assert_eq!(families.last(), Some(&family), "a sample stands in its family: {line}");
                if let Some(labels) = name.strip_prefix(family).filter(|labels| !labels.is_empty()) {
                    let label = labels.strip_prefix('{').and_then(|labels| labels.strip_suffix("\"}")).unwrap();
                    let (label, value) = label.split_once("=\"").unwrap();
                    let unescaped = value.replace("\\\\", "").replace("\\\"", "").replace("\\n", "");
                    assert!(is_name(label) && !unescaped.contains(['"', '\\']), "{line}");
                }
                assert!(samples.insert(name.to_owned(), value.parse().unwrap()).is_none(), "twice: {line}");
            }
        }
        samples
    }

    #[test]
    fn what_is_counted_is_there_under_its_name() {
        let model = |name: &str, waiting_rows| ModelStats {
            name: name.into(),
            waiting_rows,
            loaded: 1,
            memory_bytes: 90 << 20,
            keep: false,
        };
        let stats = DeviceStats {
            batches: 7,
            device_us: 1_500_000,
            cut_retry: 2,
            expired: 3,
            queue_bytes: 4096,
            models: vec![model("all-minilm-l6-v2", 5), model("a\"b\\c\nd", 0)],
            ..DeviceStats::default()
        };
        let samples = parse(&exposition(&stats).text);
        for (name, value) in [
            ("bireme_batches_total", 7.0),
            ("bireme_device_seconds_total", 1.5),
            ("bireme_batch_cuts_total{reason=\"retry\"}", 2.0),
            ("bireme_inference_requests_failed_total{reason=\"deadline\"}", 3.0),
            ("bireme_inference_queue_bytes", 4096.0),
            ("bireme_model_waiting_rows{model=\"all-minilm-l6-v2\"}", 5.0),
            ("bireme_model_memory_bytes{model=\"a\\\"b\\\\c\\nd\"}", 94_371_840.0),
        ] {
            assert_eq!(samples.get(name), Some(&value), "{name} in {samples:#?}");
        }
    }

    #[test]
    fn a_host_that_did_nothing_says_so() {
        let samples = parse(&exposition(&DeviceStats::default()).text);
        assert_eq!(samples["bireme_batches_total"], 0.0);
        assert!(samples.keys().all(|name| !name.contains("model=")));
    }
}
