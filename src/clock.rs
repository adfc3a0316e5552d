//! Time, where a platform tells it.

/// A stopwatch. A page in a browser has no clock that Rust's standard library reads: there it
/// stands at 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch {
    #[cfg(not(target_arch = "wasm32"))]
    begun: std::time::Instant,
}

impl Stopwatch {
    /// One that begins now.
    pub(crate) fn start() -> Self {
        Self {
            #[cfg(not(target_arch = "wasm32"))]
            begun: std::time::Instant::now(),
        }
    }

    /// Seconds since it began.
    pub(crate) fn seconds(self) -> f64 {
        #[cfg(not(target_arch = "wasm32"))]
        return self.begun.elapsed().as_secs_f64();
        #[cfg(target_arch = "wasm32")]
        0.0
    }
}

/// Seconds since 1970, in UTC; 0 where nobody knows.
#[cfg(feature = "book")]
pub(crate) fn unix_seconds() -> u64 {
    #[cfg(not(target_arch = "wasm32"))]
    return std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    #[cfg(target_arch = "wasm32")]
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes() {
        let watch = Stopwatch::start();
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(watch.seconds() >= 0.002);
        #[cfg(feature = "book")]
        assert!(unix_seconds() > 1_700_000_000);
    }
}
