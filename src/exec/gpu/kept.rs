//! The driver's compiled pipelines, kept between runs.

use std::sync::{Mutex, PoisonError};

use super::block_on;
use crate::exec::Cache;
use crate::exec::cache::digits;

/// The driver's compiled pipelines, kept between runs.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) pipelines: wgpu::PipelineCache,
    cache: Cache,
    name: String,
    good_for: String,
    /// What the file holds.
    stored: Mutex<Vec<u8>>,
}

impl Kept {
    /// What `cache` has under wgpu's key for the adapter; none where wgpu or the driver offers no cache.
    #[allow(unsafe_code)]
    pub(super) fn load(
        device: &wgpu::Device,
        key: &str,
        good_for: &str,
        cache: &Cache,
    ) -> Option<Self> {
        cache.folder()?;
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let name = format!("{key}-{}", digits(good_for));
        let create = |data: Option<&[u8]>| {
            let refused = device.push_error_scope(wgpu::ErrorFilter::Validation);
            let descriptor = wgpu::PipelineCacheDescriptor {
                label: Some("wgrad"),
                data,
                fallback: true,
            };
            // SAFETY: `data` is what `PipelineCache::get_data` has returned for this adapter
            // and driver: the cache has compared a SHA-256 over their names and every byte.
            // wgpu holds its own header against the device before the driver sees the rest.
            let made = unsafe { device.create_pipeline_cache(&descriptor) };
            let refused = block_on(async { Ok(refused.pop().await) });
            refused.ok()?.is_none().then_some(made)
        };
        let known = cache.load(&name, good_for);
        let warm = known.and_then(|data| Some((create(Some(&data))?, data)));
        let (pipelines, stored) = match warm {
            Some(warm) => warm,
            None => (create(None)?, vec![]),
        };
        Some(Self {
            pipelines,
            cache: cache.clone(),
            name,
            good_for: good_for.into(),
            stored: Mutex::new(stored),
        })
    }

    /// Writes the file where it holds something else: less, or what wgpu has passed over.
    pub(super) fn store(&self) {
        let Some(data) = self.pipelines.get_data() else {
            return;
        };
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        if data != *stored {
            self.cache.store(&self.name, &self.good_for, &data);
            *stored = data;
        }
    }
}
