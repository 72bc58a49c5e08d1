//! The RAM that limits are foretold from is that of the recorded sweep.

use std::path::Path;

use results::target::RECORDED_SWEEP;
use results::{Target, file, sweep};

#[test]
fn the_recorded_ram_is_that_of_the_record() {
    let record = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../loadtest/record").join(RECORDED_SWEEP);
    let results = file::read(&record).unwrap().results;
    for target in Target::ALL {
        let runs: Vec<_> = results.iter().filter(|run| run.target == target.name()).collect();
        let expected = sweep::line(&runs, |run| run.memory.peak_bytes).map(|line| {
            let (_, high) = line.slope_interval.unwrap();
            (line.intercept.max(0.0).round() as u64, high.round() as u64)
        });
        assert_eq!(target.recorded_ram_bytes(), expected, "{}", target.name());
    }
}
