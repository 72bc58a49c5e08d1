//! What of this machine decides what a switch costs.

use std::fs;

/// Names and values: PCID, KPTI and other mitigations, SMT, steal, the frequency.
pub fn facts() -> Vec<(String, String)> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
    };
    let has_flag = |flag: &str| field("flags").map(|flags| flags.split(' ').any(|known| known == flag));
    let yes_no = |is: Option<bool>| is.map_or("unknown", |is| if is { "yes" } else { "no" }).to_owned();
    let file = |path: &str| fs::read_to_string(path).map_or("unknown".to_owned(), |text| text.trim().to_owned());
    let mut facts = vec![
        ("CPU".to_owned(), field("model name").unwrap_or_else(|| "unknown".to_owned())),
        ("MHz".to_owned(), field("cpu MHz").unwrap_or_else(|| "unknown".to_owned())),
        ("virtual machine".to_owned(), yes_no(has_flag("hypervisor"))),
        ("PCID (the TLB keeps several address spaces apart)".to_owned(), yes_no(has_flag("pcid"))),
        ("SMT active".to_owned(), file("/sys/devices/system/cpu/smt/active")),
        ("huge pages".to_owned(), file("/sys/kernel/mm/transparent_hugepage/enabled")),
        ("steal, in ticks since start".to_owned(), steal().unwrap_or_else(|| "unknown".to_owned())),
    ];
    let mitigations = fs::read_dir("/sys/devices/system/cpu/vulnerabilities").into_iter().flatten().flatten();
    let mut mitigations: Vec<_> = mitigations
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), file(&entry.path().to_string_lossy())))
        .filter(|(_, state)| state != "Not affected")
        .collect();
    mitigations.sort();
    facts.append(&mut mitigations);
    facts
}

/// The clock rate, in cycles per nanosecond.
pub fn cycles_per_ns() -> Option<f64> {
    let (_, mhz) = facts().into_iter().find(|(name, _)| name == "MHz")?;
    Some(mhz.parse::<f64>().ok()? / 1e3)
}

/// Time that the hypervisor gave to others: the eighth column of the first line of `/proc/stat`.
fn steal() -> Option<String> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().next()?.split_whitespace().nth(8).map(str::to_owned)
}
