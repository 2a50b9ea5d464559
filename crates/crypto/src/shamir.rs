//! Shamir's secret sharing over GF(2^8), compatible with the shares of the reference.
//!
//! A share is the polynomials' values followed by the point (one byte), over the field with the polynomial 0x11B; a
//! single share of one is the secret itself. Multiplication has no tables and no branches on secrets (SHA rows).
//! Combining cannot tell a right secret from a wrong one: the caller proves the result by opening something with it.

use tresor_env::Entropy;
use tresor_secret::{SecretBytes, UnsealShare};
use zeroize::Zeroizing;

/// How a secret is split; checked once, when made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold {
    shares: u8,
    threshold: u8,
}

/// Why a split makes no sense; texts that clients of the reference know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ThresholdError {
    /// No share at all.
    #[error("the number of shares must be at least one")]
    NoShares,
    /// No threshold.
    #[error("the threshold must be at least one")]
    NoThreshold,
    /// More needed than there are.
    #[error("the threshold cannot be larger than the number of shares")]
    AboveShares,
    /// Several shares of which any one opens.
    #[error("the threshold must be greater than one for multiple shares")]
    OneOfMany,
    /// More shares than the field has points.
    #[error("shares must be less than 256")]
    TooManyShares,
    /// More needed than there can be.
    #[error("threshold must be less than 256")]
    TooHighThreshold,
}

impl Threshold {
    /// A split into `shares`, of which `threshold` open.
    ///
    /// # Errors
    /// [`ThresholdError`] when there is no such split.
    pub const fn new(shares: u8, threshold: u8) -> Result<Self, ThresholdError> {
        match (shares, threshold) {
            (0, _) => Err(ThresholdError::NoShares),
            (_, 0) => Err(ThresholdError::NoThreshold),
            (shares, threshold) if threshold > shares => Err(ThresholdError::AboveShares),
            (2.., 1) => Err(ThresholdError::OneOfMany),
            _ => Ok(Self { shares, threshold }),
        }
    }

    /// The same for numbers as people give them, of any size; what is less than none is none.
    ///
    /// # Errors
    /// [`ThresholdError`] when there is no such split.
    pub fn of(shares: impl Into<i128>, threshold: impl Into<i128>) -> Result<Self, ThresholdError> {
        match (shares.into(), threshold.into()) {
            (..=0, _) => Err(ThresholdError::NoShares),
            (_, ..=0) => Err(ThresholdError::NoThreshold),
            (2.., 1) => Err(ThresholdError::OneOfMany),
            (shares, threshold) => {
                let shares = u8::try_from(shares).map_err(|_| ThresholdError::TooManyShares)?;
                let threshold = u8::try_from(threshold).map_err(|_| ThresholdError::TooHighThreshold)?;
                Self::new(shares, threshold)
            }
        }
    }

    /// How many shares there are.
    #[must_use]
    pub const fn shares(self) -> u8 {
        self.shares
    }

    /// How many open.
    #[must_use]
    pub const fn threshold(self) -> u8 {
        self.threshold
    }
}

/// Why shares cannot be combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CombineError {
    /// Fewer than one.
    #[error("there are no shares")]
    NoShares,
    /// Shares of different lengths, or too short to hold anything.
    #[error("shares have different or impossible lengths")]
    Length,
    /// Two shares of the same point, or one of the point zero.
    #[error("shares are not distinct")]
    Point,
}

/// Product in the field, in constant time.
const fn multiply(a: u8, b: u8) -> u8 {
    let (mut a, mut b, mut product) = (a, b, 0_u8);
    let mut step = 0;
    while step < 8 {
        product ^= a & (b & 1).wrapping_neg();
        let carry = (a >> 7).wrapping_neg();
        a = (a << 1) ^ (0x1b & carry);
        b >>= 1;
        step += 1;
    }
    product
}

/// Inverse in the field, in constant time: the 254th power. Zero gives zero.
const fn invert(a: u8) -> u8 {
    let mut result = 1_u8;
    let mut power = a;
    let mut step = 0;
    while step < 7 {
        power = multiply(power, power);
        result = multiply(result, power);
        step += 1;
    }
    result
}

/// Splits a secret.
#[must_use]
pub fn split(secret: &SecretBytes, threshold: Threshold, entropy: &dyn Entropy) -> Vec<UnsealShare> {
    let secret = secret.expose();
    if threshold.shares == 1 {
        return vec![UnsealShare::new(secret.clone())];
    }
    let points = random_points(threshold.shares, entropy);
    let mut shares: Vec<Zeroizing<Vec<u8>>> =
        points.iter().map(|_| Zeroizing::new(Vec::with_capacity(secret.len() + 1))).collect();
    let mut coefficients = Zeroizing::new(vec![0_u8; usize::from(threshold.threshold) - 1]);
    for byte in secret {
        entropy.fill(&mut coefficients);
        for (point, share) in points.iter().zip(&mut shares) {
            // Horner's rule from the highest coefficient down; the secret byte is the constant term.
            let high = coefficients.iter().fold(0, |sum, coefficient| multiply(sum, *point) ^ coefficient);
            share.push(multiply(high, *point) ^ byte);
        }
    }
    points
        .iter()
        .zip(shares)
        .map(|(point, mut share)| {
            share.push(*point);
            UnsealShare::new(share.to_vec())
        })
        .collect()
}

/// Distinct points other than zero, in random order.
fn random_points(count: u8, entropy: &dyn Entropy) -> Vec<u8> {
    let mut points: Vec<u8> = Vec::with_capacity(usize::from(count));
    let mut drawn = [0_u8; 32];
    loop {
        entropy.fill(&mut drawn);
        for point in drawn {
            if points.len() == usize::from(count) {
                return points;
            }
            if point != 0 && !points.contains(&point) {
                points.push(point);
            }
        }
    }
}

/// Combines shares; whether the result is the secret, only trying it can tell.
///
/// # Errors
/// [`CombineError`] when no secret can come of these shares.
pub fn combine(shares: &[UnsealShare]) -> Result<SecretBytes, CombineError> {
    let length = shares.first().map(|share| share.expose().len()).ok_or(CombineError::NoShares)?;
    if shares.len() == 1 {
        return shares.first().map(|share| SecretBytes::new(share.expose().to_vec())).ok_or(CombineError::NoShares);
    }
    let mut points = Vec::with_capacity(shares.len());
    let mut values = Vec::with_capacity(shares.len());
    for share in shares {
        let (point, value) = share.expose().split_last().ok_or(CombineError::Length)?;
        if value.is_empty() || value.len() + 1 != length {
            return Err(CombineError::Length);
        }
        if *point == 0 || points.contains(point) {
            return Err(CombineError::Point);
        }
        points.push(*point);
        values.push(value);
    }
    // Lagrange's weights at zero depend on the points only.
    let weights: Vec<u8> = points
        .iter()
        .map(|own| {
            points
                .iter()
                .filter(|other| *other != own)
                .fold(1, |weight, other| multiply(weight, multiply(*other, invert(own ^ other))))
        })
        .collect();
    let mut secret = vec![0_u8; length - 1];
    for (value, weight) in values.iter().zip(&weights) {
        for (target, byte) in secret.iter_mut().zip(*value) {
            *target ^= multiply(*byte, *weight);
        }
    }
    Ok(SecretBytes::new(secret))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use proptest::prelude::*;
    use tresor_env::doubles::SeededEntropy;

    use super::*;

    /// The field by schoolbook polynomial arithmetic.
    fn slow_multiply(a: u8, b: u8) -> u8 {
        let mut product = 0_u32;
        for bit in 0..8 {
            if b >> bit & 1 == 1 {
                product ^= u32::from(a) << bit;
            }
        }
        for bit in (8..16).rev() {
            if product >> bit & 1 == 1 {
                product ^= 0x11b << (bit - 8);
            }
        }
        u8::try_from(product).unwrap()
    }

    fn copy(share: &UnsealShare) -> UnsealShare {
        UnsealShare::new(share.expose().to_vec())
    }

    fn secret() -> SecretBytes {
        SecretBytes::new((0..32).collect())
    }

    #[test]
    fn sha_01_tim_02_the_field_agrees_with_schoolbook_arithmetic_everywhere() {
        for a in 0..=255 {
            for b in 0..=255 {
                assert_eq!(multiply(a, b), slow_multiply(a, b));
            }
            assert_eq!(multiply(a, invert(a)), u8::from(a != 0));
        }
    }

    #[test]
    fn the_last_shares_open_as_well_as_the_first() {
        let shares = split(&secret(), Threshold::new(5, 3).unwrap(), &SeededEntropy::new(9));
        for chosen in [[0, 1, 2], [2, 3, 4], [4, 2, 0], [1, 3, 4]] {
            let some: Vec<_> = chosen.iter().map(|at| copy(&shares[*at])).collect();
            assert_eq!(combine(&some).unwrap().expose(), secret().expose());
        }
        let two: Vec<_> = shares[..2].iter().map(copy).collect();
        assert_ne!(combine(&two).unwrap().expose(), secret().expose());
    }

    #[test]
    fn another_implementation_of_the_field_combines_our_shares() {
        use vsss_rs::Gf256;
        let shares = split(&secret(), Threshold::new(6, 4).unwrap(), &SeededEntropy::new(2));
        // It puts the point first, we (as the reference) put it last.
        let rotated: Vec<Vec<u8>> = shares[2..6]
            .iter()
            .map(|share| {
                let (point, value) = share.expose().split_last().unwrap();
                std::iter::once(*point).chain(value.iter().copied()).collect()
            })
            .collect();
        assert_eq!(&Gf256::combine_bytes(&rotated).unwrap(), secret().expose());
    }

    #[test]
    fn sha_shares_that_cannot_be_combined_are_refused() {
        let shares = split(&secret(), Threshold::new(3, 2).unwrap(), &SeededEntropy::new(3));
        assert_eq!(combine(&[]).err(), Some(CombineError::NoShares));
        assert_eq!(combine(&[copy(&shares[0]), copy(&shares[0])]).err(), Some(CombineError::Point));
        assert_eq!(combine(&[copy(&shares[0]), UnsealShare::new(vec![1, 2])]).err(), Some(CombineError::Length));
        assert_eq!(
            combine(&[UnsealShare::new(vec![5, 0]), UnsealShare::new(vec![5, 1])]).err(),
            Some(CombineError::Point)
        );
    }

    #[test]
    fn splits_that_make_no_sense_cannot_be_made() {
        assert_eq!(Threshold::new(0, 0), Err(ThresholdError::NoShares));
        assert_eq!(Threshold::new(1, 0), Err(ThresholdError::NoThreshold));
        assert_eq!(Threshold::new(3, 4), Err(ThresholdError::AboveShares));
        assert_eq!(Threshold::new(3, 1), Err(ThresholdError::OneOfMany));
        assert!(Threshold::new(1, 1).is_ok() && Threshold::new(255, 255).is_ok());
        assert_eq!(Threshold::of(255, 3), Threshold::new(255, 3));
        assert_eq!(Threshold::of(-1, -1), Err(ThresholdError::NoShares));
        assert_eq!(Threshold::of(i64::MAX, i64::MIN), Err(ThresholdError::NoThreshold));
        assert_eq!(Threshold::of(256, 1), Err(ThresholdError::OneOfMany));
        assert_eq!(Threshold::of(256, 3), Err(ThresholdError::TooManyShares));
        assert_eq!(Threshold::of(u64::MAX, u64::MAX), Err(ThresholdError::TooManyShares));
        assert_eq!(Threshold::of(5, 256), Err(ThresholdError::TooHighThreshold));
        assert_eq!(Threshold::of(3, 4), Err(ThresholdError::AboveShares));
    }

    /// Pearson's statistic for 256 or 255 equally likely values: its mean is their number, its deviation the root of
    /// twice that.
    fn chi_squared(counts: &[u32]) -> f64 {
        let total: u32 = counts.iter().sum();
        let expected = f64::from(total) / f64::from(u32::try_from(counts.len()).unwrap());
        counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum()
    }

    #[test]
    fn sha_02_no_share_lies_at_zero_or_beside_another() {
        let entropy = SeededEntropy::new(12);
        let byte = SecretBytes::new(vec![7]);
        for (shares, threshold) in [(255, 2), (5, 3), (2, 2)] {
            for _ in 0..2_000 {
                let split = split(&byte, Threshold::new(shares, threshold).unwrap(), &entropy);
                let mut points: Vec<u8> = split.iter().map(|share| *share.expose().last().unwrap()).collect();
                points.sort_unstable();
                points.dedup();
                assert!(points.len() == usize::from(shares) && points[0] != 0);
            }
        }
        let at_zero = [UnsealShare::new(vec![1, 0]), UnsealShare::new(vec![2, 3])];
        assert_eq!(combine(&at_zero).err(), Some(CombineError::Point));
    }

    #[test]
    fn sha_03_fewer_shares_than_needed_tell_nothing() {
        // Whatever the secret, one share of two and two of three take every value equally often.
        let entropy = SeededEntropy::new(21);
        for secret in [0_u8, 1, 255] {
            for threshold in [2_u8, 3] {
                let mut counts = vec![0_u32; 256];
                for _ in 0..20_000 {
                    let made = split(&SecretBytes::new(vec![secret]), Threshold::new(3, threshold).unwrap(), &entropy);
                    counts[usize::from(made[0].expose()[0])] += 1;
                }
                // Six deviations: a sound generator fails once in a thousand million runs, and this one is seeded.
                assert!((chi_squared(&counts) - 255.0).abs() < 6.0 * 22.6, "secret {secret}, threshold {threshold}");
            }
        }
    }

    #[test]
    fn sha_04_every_point_is_as_likely_as_any_other() {
        let entropy = SeededEntropy::new(31);
        for place in 0..3 {
            let mut counts = vec![0_u32; 255];
            for _ in 0..20_000 {
                let made = split(&SecretBytes::new(vec![1]), Threshold::new(3, 2).unwrap(), &entropy);
                counts[usize::from(*made[place].expose().last().unwrap()) - 1] += 1;
            }
            assert!((chi_squared(&counts) - 254.0).abs() < 6.0 * 22.5, "place {place}");
        }
    }

    proptest! {
        #[test]
        fn pt_17_any_threshold_of_shares_gives_the_secret(seed: u64, secret: Vec<u8>, shares in 2_u8..12, pick: u64) {
            prop_assume!(!secret.is_empty());
            let threshold = 2 + u8::try_from(pick % u64::from(shares - 1)).unwrap();
            let made = split(&SecretBytes::new(secret.clone()), Threshold::new(shares, threshold).unwrap(), &SeededEntropy::new(seed));
            let start = usize::try_from(pick).unwrap_or(0) % made.len();
            let some: Vec<_> = made.iter().cycle().skip(start).take(usize::from(threshold)).map(copy).collect();
            let combined = combine(&some).unwrap();
            prop_assert_eq!(combined.expose(), &secret);
        }
    }
}
