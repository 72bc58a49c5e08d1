//! How users are shared out.

/// Splits users evenly: no part has more than one more than another.
pub fn split(users: usize, parts: usize) -> impl Iterator<Item = usize> {
    let parts = parts.max(1);
    (0..parts).map(move |part| users / parts + usize::from(part < users % parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_split_evenly_and_none_is_lost() {
        assert_eq!(split(10, 3).collect::<Vec<_>>(), [4, 3, 3]);
        assert_eq!(split(2, 2).collect::<Vec<_>>(), [1, 1]);
        assert_eq!(split(10_000, 7).sum::<usize>(), 10_000);
    }
}
