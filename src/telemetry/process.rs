//! The metrics of the process that every Prometheus dashboard knows, and the version.

use std::fmt;

use procfs::process::Process as Own;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Read from `/proc` at each scrape. What cannot be read is left out.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: Option<f64>| {
            let Some(value) = value else { return Ok(()) };
            let gauge = ConstGauge::new(value);
            let encoder = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(encoder)
        };
        let Ok(own) = Own::myself() else { return Ok(()) };
        let stat = own.stat().ok();
        let ticks = procfs::ticks_per_second() as f64;
        let begun = stat
            .as_ref()
            .and_then(|stat| Some(procfs::boot_time_secs().ok()? as f64 + stat.starttime as f64 / ticks));
        gauge("process_start_time_seconds", "When the process started, in seconds since 1970", begun)?;
        let resident = stat.as_ref().map(|stat| (stat.rss * procfs::page_size()) as f64);
        gauge("process_resident_memory_bytes", "Memory in use, in bytes", resident)?;
        let virtual_memory = stat.as_ref().map(|stat| stat.vsize as f64);
        gauge("process_virtual_memory_bytes", "Address space, in bytes", virtual_memory)?;
        gauge("process_threads", "Threads", stat.as_ref().map(|stat| stat.num_threads as f64))?;
        gauge(
            "process_open_fds",
            "Open files, sockets included",
            own.fd_count().ok().map(|count| count as f64),
        )?;
        let limit = own.limits().ok().and_then(|limits| match limits.max_open_files.soft_limit {
            procfs::process::LimitValue::Value(most) => Some(most as f64),
            procfs::process::LimitValue::Unlimited => None,
        });
        gauge("process_max_fds", "The most open files", limit)?;
        let Some(stat) = stat else { return Ok(()) };
        let cpu = ConstCounter::new((stat.utime + stat.stime) as f64 / ticks);
        let help = "Processor time used, in seconds";
        cpu.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, cpu.metric_type())?)
    }
}
