//! Metric families as they are written at a scrape: name, help, type, then samples.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::histogram::Snapshot;

/// Part whose metrics are read at each scrape.
pub(crate) trait Source: fmt::Debug + Send + Sync + 'static {
    /// Writes its families. Called once a scrape, on a blocking thread.
    fn write(&self, families: &mut Families<'_>) -> fmt::Result;
}

impl<S: Source + ?Sized> Source for Arc<S> {
    fn write(&self, families: &mut Families<'_>) -> fmt::Result {
        self.as_ref().write(families)
    }
}

impl<S: Source + ?Sized> Source for Box<S> {
    fn write(&self, families: &mut Families<'_>) -> fmt::Result {
        self.as_ref().write(families)
    }
}

/// Writer of families. A name has neither the prefix `bireme_` nor a counter's `_total`: both are added. A family
/// without a sample is left out.
pub(crate) struct Families<'a>(DescriptorEncoder<'a>);

/// Labels of a sample, by name.
type Labels<'l, const N: usize> = [(&'static str, &'l str); N];

impl<'a> Families<'a> {
    pub(super) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    /// Writes counters: values that only grow.
    pub(crate) fn counters<'l, V: EncodeCounterValue, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l, N>, V)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Counter, samples, |encoder, value| {
            encoder.encode_counter::<NoLabelSet, V, f64>(value, None)
        })
    }

    /// Writes gauges: values of this moment.
    pub(crate) fn gauges<'l, V: EncodeGaugeValue, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l, N>, V)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Gauge, samples, |encoder, value| encoder.encode_gauge(value))
    }

    pub(super) fn histograms<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l, N>, Snapshot)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Histogram, samples, |encoder, snapshot| {
            let (buckets, seconds, count) = (snapshot.buckets(), snapshot.seconds(), snapshot.count());
            encoder.encode_histogram::<NoLabelSet>(seconds, count, &buckets, None)
        })
    }

    pub(super) fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(&labels)
    }

    fn family<'l, V, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        metric_type: MetricType,
        samples: impl IntoIterator<Item = (Labels<'l, N>, V)>,
        encode: impl Fn(&mut MetricEncoder<'_>, &V) -> fmt::Result,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let mut encoder = self.0.encode_descriptor(name, help, None, metric_type)?;
        for (labels, value) in samples {
            encode(&mut encoder.encode_family(&labels)?, &value)?;
        }
        Ok(())
    }
}

/// Gauge without labels, as it was read for one scrape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gauge {
    pub name: &'static str,
    pub help: &'static str,
    pub value: u64,
}

impl Source for Vec<Gauge> {
    fn write(&self, families: &mut Families<'_>) -> fmt::Result {
        self.iter().try_for_each(|gauge| families.gauges(gauge.name, gauge.help, [([], gauge.value)]))
    }
}
