//! Finds how many connections each server holds within a RAM limit.

use results::sweep::holds;
use results::{Cause, Target};

use super::bench::{Bench, SweepCell};

/// The search ends when the highest success and the lowest failure are within a tenth.
const PRECISION: usize = 10;

/// Tries each server with more and more connections until it fails, then with numbers in between. `None` if
/// interrupted.
pub(super) fn search(bench: &mut Bench, targets: &[Target], connections: &[usize]) -> Option<()> {
    let cells: Vec<_> = targets.iter().flat_map(|&target| connections.iter().map(move |&n| cell(target, n))).collect();
    bench.announce(&cells);
    targets.iter().try_for_each(|&target| search_one(bench, target, connections))
}

fn search_one(bench: &mut Bench, target: Target, connections: &[usize]) -> Option<()> {
    let (mut held, mut failed) = (0, None);
    for &connections in connections {
        let result = bench.measure(cell(target, connections))?;
        if result.cause == Some(Cause::NotStarted) || result.memory.source.is_none() {
            return Some(());
        }
        if !holds(result) {
            failed = Some(connections);
            break;
        }
        held = connections;
    }
    let Some(mut failed) = failed else { return Some(()) };
    while failed - held > (failed / PRECISION).max(1) {
        let middle = round(usize::midpoint(held, failed), held, failed);
        if holds(bench.measure(cell(target, middle))?) { held = middle } else { failed = middle }
    }
    Some(())
}

fn cell(target: Target, connections: usize) -> SweepCell {
    SweepCell { target, connections, round: 1 }
}

/// `middle` rounded to two digits, if that is still between the others.
fn round(middle: usize, held: usize, failed: usize) -> usize {
    let step = 10_usize.pow(middle.max(1).ilog10().saturating_sub(1));
    let rounded = middle / step * step;
    if rounded > held && rounded < failed { rounded } else { middle }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_where_possible() {
        assert_eq!(round(6_500, 3_000, 10_000), 6_500);
        assert_eq!(round(8_250, 6_500, 10_000), 8_200);
        assert_eq!(round(55, 50, 60), 55);
        assert_eq!(round(7, 5, 9), 7);
        assert_eq!(round(1_255, 1_251, 1_260), 1_255);
        assert_eq!(round(0, 0, 1), 0);
    }
}
