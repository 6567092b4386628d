//! What the benchmark asks of the operating system: cores, descriptors, time on the processor, memory.
//!
//! Only Linux has all of it; elsewhere the figures that need it are left out.

use std::fs;

/// The cores this process may run on, in order; empty where that cannot be asked.
#[cfg(target_os = "linux")]
pub(crate) fn cores() -> Vec<usize> {
    // SAFETY: a cpu_set_t is an array of integers, for which all zeroes is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a cpu_set_t of ours, of the size given; 0 is the calling thread.
    let asked = unsafe { libc::sched_getaffinity(0, std::mem::size_of_val(&set), &mut set) };
    if asked != 0 {
        return Vec::new();
    }
    // SAFETY: every core asked for is below CPU_SETSIZE, the number of bits in the set.
    (0..libc::CPU_SETSIZE as usize).filter(|core| unsafe { libc::CPU_ISSET(*core, &set) }).collect()
}

/// Keeps the calling thread, and every thread and process it starts from now on, on these cores.
#[cfg(target_os = "linux")]
pub(crate) fn stay_on(cores: &[usize]) -> std::io::Result<()> {
    // SAFETY: a cpu_set_t is an array of integers, for which all zeroes is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for &core in cores {
        if core >= libc::CPU_SETSIZE as usize {
            return Err(std::io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: the core is below CPU_SETSIZE, the number of bits in the set.
        unsafe { libc::CPU_SET(core, &mut set) };
    }
    // SAFETY: the pointer is to a cpu_set_t of ours, of the size given; 0 is the calling thread.
    match unsafe { libc::sched_setaffinity(0, std::mem::size_of_val(&set), &set) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn cores() -> Vec<usize> {
    Vec::new()
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn stay_on(_cores: &[usize]) -> std::io::Result<()> {
    Ok(())
}

/// Raises the number of descriptors this process may have open to the most it may ask for, and
/// says how many that is.
pub(crate) fn raise_descriptor_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to an rlimit of ours.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return 0;
    }
    let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: the pointer is to an rlimit of ours; the call only reads it.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) } {
        0 => raised.rlim_cur,
        _ => limit.rlim_cur,
    }
}

/// Nanoseconds that the threads of a process have spent on a core, all together.
pub(crate) fn cpu_nanoseconds(process: u32) -> Option<u64> {
    let mut total = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task")).ok()? {
        // A thread that ended since the directory was read is passed over.
        let Ok(text) = fs::read_to_string(thread.ok()?.path().join("schedstat")) else { continue };
        total += text.split(' ').next()?.parse::<u64>().ok()?;
    }
    Some(total)
}

/// How often the threads of a process have given up their core to wait for something.
pub(crate) fn voluntary_switches(process: u32) -> Option<u64> {
    let mut total = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task")).ok()? {
        let Ok(text) = fs::read_to_string(thread.ok()?.path().join("status")) else { continue };
        let line = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        total += line.trim().parse::<u64>().ok()?;
    }
    Some(total)
}

/// The machine in a few words: cores, processor, kernel.
pub(crate) fn machine() -> Option<String> {
    let processors = fs::read_to_string("/proc/cpuinfo").ok()?;
    let mut models = processors.lines().filter_map(|line| line.strip_prefix("model name"));
    let model = models.next()?.trim_start_matches([' ', '\t', ':']).to_owned();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    Some(format!("{} cores of {model}, Linux {}", models.count() + 1, kernel.trim()))
}

/// Resident memory of a process in KiB: `Rss` of `/proc/<pid>/smaps_rollup`, which is exact where
/// `statm` is only updated in batches.
pub(crate) fn resident_kib(process: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    line.split_whitespace().next()?.parse().ok()
}
