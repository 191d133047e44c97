//! Metrics of models, batches and workers.

use std::fmt;

use super::worker_pool::DeviceStats;
use crate::metrics::{Families, Source};

impl Source for DeviceStats {
    fn write(&self, families: &mut Families<'_>) -> fmt::Result {
        families.counters("worker_starts", "Workers that were started", [([], self.worker_starts)])?;
        let help = "Workers that were started in place of one that had ended";
        families.counters("worker_restarts", help, [([], self.worker_restarts)])?;
        let help = "Workers that ended by themselves, or because they hung";
        families.counters("worker_deaths", help, [([], self.worker_deaths)])?;
        families.counters("batches", "Batches that ran", [([], self.batches)])?;
        let help = "Batches that failed or were lost, each time";
        families.counters("batches_failed", help, [([], self.batches_failed)])?;
        families.counters("batch_rows", "Rows of the batches that ran", [([], self.rows)])?;
        families.counters("batch_tokens", "Tokens of the batches that ran", [([], self.tokens)])?;
        let seconds = self.device_us as f64 / 1e6;
        families.counters("device_seconds", "Time that batches took on the device", [([], seconds)])?;
        let cuts = [
            ("drained", self.cut_drained),
            ("rows", self.cut_rows),
            ("tokens", self.cut_tokens),
            ("enough", self.cut_enough),
            ("delay", self.cut_delay),
            ("retry", self.cut_retry),
        ];
        let by_reason = |(reason, count)| ([("reason", reason)], count);
        families.counters("batch_cuts", "Batches, by why they were not larger", cuts.map(by_reason))?;
        let failed = [("overloaded", self.refused), ("deadline", self.expired), ("rejected", self.rejected)];
        let help = "Requests to models that no batch answered, by why";
        families.counters("inference_requests_failed", help, failed.map(by_reason))?;
        families.counters("model_loads", "Models that were loaded onto a device", [([], self.loads)])?;
        families.counters("model_unloads", "Models that were taken off a device", [([], self.unloads)])?;
        let help = "Times that a device was asked to compute something to show that it can";
        families.counters("device_checks", help, [([], self.checks)])?;
        families.gauges("inference_queue_bytes", "Bytes held for requests to models", [([], self.queue_bytes)])?;
        let models = || self.models.iter().map(|model| ([("model", model.name.as_str())], model));
        let rows = models().map(|(labels, model)| (labels, model.waiting_rows));
        families.gauges("model_waiting_rows", "Rows that wait for a batch", rows)?;
        let workers = models().map(|(labels, model)| (labels, model.loaded));
        families.gauges("model_workers", "Workers that hold the model", workers)?;
        let bytes = models().map(|(labels, model)| (labels, model.memory_bytes));
        families.gauges("model_memory_bytes", "Bytes that the model takes on each device that holds it", bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::worker_pool::ModelStats;
    use crate::metrics::tests::{check, metrics, samples};

    #[test]
    fn models_and_workers_are_there_under_their_names() {
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
            worker_restarts: 1,
            models: vec![model("all-minilm-l6-v2", 5), model("a\"b\\c\nd", 0)],
            ..DeviceStats::default()
        };
        check(
            &samples(&metrics(), vec![Box::new(stats)]),
            &[
                ("bireme_batches_total", 7.0),
                ("bireme_device_seconds_total", 1.5),
                ("bireme_batch_cuts_total{reason=\"retry\"}", 2.0),
                ("bireme_inference_requests_failed_total{reason=\"deadline\"}", 3.0),
                ("bireme_inference_queue_bytes", 4096.0),
                ("bireme_worker_restarts_total", 1.0),
                ("bireme_model_waiting_rows{model=\"all-minilm-l6-v2\"}", 5.0),
                ("bireme_model_memory_bytes{model=\"a\\\"b\\\\c\\nd\"}", 94_371_840.0),
            ],
        );
    }

    #[test]
    fn an_idle_host_has_batches_and_no_models() {
        let samples = samples(&metrics(), vec![Box::new(DeviceStats::default())]);
        check(&samples, &[("bireme_batches_total", 0.0), ("bireme_worker_starts_total", 0.0)]);
        assert!(samples.keys().all(|name| !name.contains("model=")));
    }
}
