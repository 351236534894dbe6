//! Process metrics read from the kernel (proc_pid_stat(5), proc_pid_status(5), proc_pid_fd(5)).

use std::{fs, time::SystemTime};

use super::exposition::{Exposition, MetricKind};

/// Clock ticks per second in the kernel's interface: always 100 on Linux (`USER_HZ`).
const TICKS: f64 = 100.0;

/// Writes the families that Prometheus client libraries agree on. Values that cannot be read are omitted.
pub fn write(out: &mut Exposition, started: SystemTime) {
    if let Some(stat) = Stat::read() {
        out.family("process_cpu_seconds", MetricKind::Counter, "CPU time used, user and system.")
            .value(&[], stat.cpu);
        out.family("process_virtual_memory_bytes", MetricKind::Gauge, "Virtual memory.")
            .value(&[], stat.virtual_memory);
        out.family("process_threads", MetricKind::Gauge, "Threads.").value(&[], stat.threads);
    }
    if let Some(resident) = fs::read_to_string("/proc/self/status").ok().as_deref().and_then(resident) {
        out.family("process_resident_memory_bytes", MetricKind::Gauge, "Resident memory.")
            .value(&[], resident);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // Reading the directory itself uses one descriptor.
        let open = open.count().saturating_sub(1);
        out.family("process_open_fds", MetricKind::Gauge, "Open file descriptors.").value(&[], open);
    }
    if let Ok((soft, _)) = rlimit::Resource::NOFILE.get() {
        out.family("process_max_fds", MetricKind::Gauge, "Most file descriptors that may be open.")
            .value(&[], soft);
    }
    let since = started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    out.family("process_start_time_seconds", MetricKind::Gauge, "When the process began, since 1970.")
        .value(&[], since);
}

struct Stat {
    cpu: f64,
    threads: u64,
    virtual_memory: u64,
}

/// Reads the resident memory from proc_pid_status(5), which reports KiB; `stat` reports pages, whose size depends on the machine.
fn resident(status: &str) -> Option<u64> {
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(resident.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

impl Stat {
    fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    /// Parses proc_pid_stat(5). The name in parentheses may contain any character, so fields are counted from its end, where the third begins.
    fn parse(stat: &str) -> Option<Self> {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |place: usize| fields.get(place - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu: (number(14)? + number(15)?) as f64 / TICKS,
            threads: number(20)?,
            virtual_memory: number(23)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_parenthesis_hides_no_field() {
        let stat = "1 (a) b) S 4 5 6 7 8 9 10 11 12 13 150 50 16 17 18 19 7 21 22 8192 3 25";
        let stat = Stat::parse(stat).unwrap();
        assert_eq!((stat.cpu, stat.threads, stat.virtual_memory), (2.0, 7, 8192));
    }

    #[test]
    fn resident_memory_is_told_in_bytes() {
        assert_eq!(resident("VmHWM:\t   9 kB\nVmRSS:\t   12 kB\nRssAnon:\t 1 kB\n"), Some(12_288));
        assert_eq!(resident("VmHWM:\t   9 kB\n"), None);
    }

    #[test]
    fn this_process_is_found() {
        let stat = Stat::read().unwrap();
        let resident = resident(&fs::read_to_string("/proc/self/status").unwrap()).unwrap();
        assert!(stat.threads >= 1 && resident > 0 && stat.virtual_memory > resident);
    }
}
