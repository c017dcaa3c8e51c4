//! Pseudo-random numbers that are the same on every machine: SplitMix64 (Steele, Lea, Flood 2014).

/// A sequence of pseudo-random numbers.
pub(crate) struct Random(u64);

impl Random {
    /// Returns the sequence of one case. It depends only on the arguments, so a case can be
    /// repeated alone.
    pub(crate) fn for_case(seed: u64, series: &str, case: usize) -> Self {
        let mut random = Self(seed);
        let mut mix_in = |number: u64| {
            let next = random.next();
            random.0 ^= next.wrapping_mul(number.wrapping_add(1));
        };
        series.bytes().for_each(|byte| mix_in(byte.into()));
        mix_in(case as u64);
        random
    }

    /// Returns the next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Returns a number below `end`, or 0 if `end` is 0.
    pub(crate) fn index_below(&mut self, end: usize) -> usize {
        let end = (end as u64).max(1);
        usize::try_from(self.next() % end).unwrap_or(0)
    }

    /// Returns one of these items.
    pub(crate) fn choose<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.index_below(items.len()))
    }

    /// Returns `true` in `percent` of all calls.
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.index_below(100) < percent
    }

    /// Returns a count: 1 in half of all calls, 2 in a quarter, and so on up to `max`.
    pub(crate) fn small_count(&mut self, max: usize) -> usize {
        let ones = usize::try_from(self.next().trailing_ones()).unwrap_or(0);
        (1 + ones).min(max)
    }
}
