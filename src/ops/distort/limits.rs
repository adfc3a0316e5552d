//! What distortions are limited to, and what follows for the grid.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use super::AFFINE;
use crate::error::{Error, Result};
use crate::tensor::held;

/// How training images are distorted, anew in every step; see [the module](super).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Distortion {
    /// Largest rotation either way, in degrees: 0 to 180.
    pub rotation: f64,
    /// Largest change of the scale, as a share, for each axis on its own: 0 to below 1.
    pub scale: f64,
    /// Largest horizontal shear, in pixels per row: 0 to 1.
    pub shear: f64,
    /// Largest shift along each axis, in pixels: 0 to 1,000.
    pub shift: f64,
    /// Simard's α, the strength of the elastic field: 0 (none) to 10,000.
    pub alpha: f64,
    /// Simard's σ, the smoothness of the elastic field in pixels: 1 to 64.
    pub sigma: f64,
}

impl Distortion {
    /// Images as they are.
    pub const NONE: Self = Self {
        rotation: 0.0,
        scale: 0.0,
        shear: 0.0,
        shift: 0.0,
        alpha: 0.0,
        sigma: 4.0,
    };

    /// A moderate affine distortion of digits of 28×28 pixels: ±10°, ±10 %, shear ±0.1,
    /// ±1 pixel (Cireşan et al. 2010 go up to ±15° and ±20 %).
    pub const fn affine() -> Self {
        Self {
            rotation: 10.0,
            scale: 0.1,
            shear: 0.1,
            shift: 1.0,
            ..Self::NONE
        }
    }

    /// Simard's elastic distortion of digits: α = 34, σ = 4, a deviation of 1.4 pixels.
    pub const fn elastic() -> Self {
        Self {
            alpha: 34.0,
            ..Self::NONE
        }
    }

    /// A distortion by name: `none`, `affine` or `elastic`.
    ///
    /// # Errors
    /// [`Error::UnknownName`] with the nearest name.
    pub fn named(name: &str) -> Result<Self> {
        match name {
            "none" => Ok(Self::NONE),
            "affine" => Ok(Self::affine()),
            "elastic" => Ok(Self::elastic()),
            _ => Err(Error::unknown(
                "distortion",
                name,
                &["none", "affine", "elastic"],
            )),
        }
    }

    /// True if every image stays as it is, whatever σ is.
    pub fn is_none(&self) -> bool {
        let sigma = Self::NONE.sigma;
        Self { sigma, ..*self } == Self::NONE
    }

    /// Checks every limit against its range.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the first that is out of range.
    pub fn check(&self) -> Result<()> {
        let within = |name: &str, value: f64, ok: bool, wanted: &str| {
            if ok {
                return Ok(());
            }
            Err(Error::setting(format!("distortion {name}"), value, wanted))
        };
        // Devices have them in f32, where a scale may be 1 and a strength 0.
        let r = (0.0..=180.0).contains(&self.rotation) && held(self.rotation.to_radians());
        within(
            "rotation",
            self.rotation,
            r,
            "0 to 180 degrees, in 32-bit floats",
        )?;
        let s = (0.0..1.0).contains(&self.scale) && held(self.scale);
        let s = s && (self.scale as f32) < 1.0;
        within("scale", self.scale, s, "0 to below 1, in 32-bit floats")?;
        let s = (0.0..=1.0).contains(&self.shear) && held(self.shear);
        within("shear", self.shear, s, "0 to 1, in 32-bit floats")?;
        let s = (0.0..=1000.0).contains(&self.shift) && held(self.shift);
        within("shift", self.shift, s, "0 to 1000 pixels, in 32-bit floats")?;
        let s = (1.0..=64.0).contains(&self.sigma);
        within("sigma", self.sigma, s, "1 to 64 pixels")?;
        let a = (0.0..=10_000.0).contains(&self.alpha) && held(self.gain());
        within("alpha", self.alpha, a, "0 to 10000, in 32-bit floats")
    }

    /// Pixels between two nodes of the elastic grid, h.
    pub(super) fn spacing(&self) -> usize {
        self.sigma as usize
    }

    /// Nodes on either side of a pixel that its displacement is made of, along one axis.
    pub(super) fn reach(&self) -> usize {
        if self.alpha == 0.0 {
            return 0;
        }
        (3.0 * self.sigma / self.spacing() as f64).ceil() as usize
    }

    /// Nodes along an axis of `extent` pixels.
    pub(super) fn nodes(&self, extent: usize) -> usize {
        match self.reach() {
            0 => 0,
            reach => (extent - 1) / self.spacing() + 2 * reach,
        }
    }

    /// What a node's uniform number is multiplied by, g.
    pub(super) fn gain(&self) -> f64 {
        self.alpha * self.spacing() as f64 / (2.0 * PI * self.sigma * self.sigma)
    }

    /// Numbers drawn for an image: the affine ones, then two per node.
    pub(super) fn row(&self, [height, width]: [usize; 2]) -> usize {
        AFFINE + 2 * self.nodes(height).saturating_mul(self.nodes(width))
    }
}

impl Default for Distortion {
    fn default() -> Self {
        Self::NONE
    }
}
