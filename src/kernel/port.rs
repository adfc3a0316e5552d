//! Ports: where a kernel of structured work (a product, a convolution, a sum) hands on each element
//! that it has finished.
//!
//! A core's text says `y[at] = finish(scalars, replica, i, sum)`. Left open, `finish` returns `sum`;
//! an expression that is compiled into the kernel (`ops/pointwise/ending.rs`) gives it another body,
//! with bindings of its own. So no kernel knows what may stand at its end.

use super::Args;

/// A place in a core's text where its elements pass a function.
#[derive(Clone, Copy, Debug)]
pub struct Port {
    /// The function's name: `fn <name>(scalars, replica: u32, i: u32, value: f32) -> f32`, of element
    /// `i` of a replica's results, in row-major order. `scalars` is what `<name>_scalars(replica)`
    /// has returned, which a thread may ask for once; its type is `<name>_once`.
    pub name: &'static str,
    /// The binding that the core stores the function's result in.
    pub binding: usize,
    /// The binding whose value in the element's place the core has read and hands to the function as
    /// `before: f32`, its fifth parameter: what will be updated there, or what the element goes back to.
    pub before: Option<usize>,
    /// Whether the core stores parts of sums in that binding before it hands over the whole ones: then
    /// it cannot be used where an ending updates a value there.
    pub partial: bool,
    /// How many elements a thread hands over, by the launch's constants.
    pub elements: &'static str,
}

/// What finishes a port's elements on the CPU.
pub(crate) trait Finish: Send {
    /// What the port's binding holds: before an element is taken, what was there.
    fn results(&mut self) -> &mut [f32];
    /// Where a core may write its elements itself: the port's memory, if nothing stands at the core's end. Else it hands
    /// them over by [`Finish::take`].
    fn plain(&mut self) -> Option<&mut [f32]> {
        None
    }
    /// Takes the elements from number `from` on.
    fn take(&mut self, from: usize, elements: &[f32]);
    /// What all of it costs, about, in additions.
    fn work(&self) -> usize;
    /// Parts of so many elements each, the last of what is left; each counts its elements from 0.
    fn split<'a>(self: Box<Self>, elements: usize) -> Vec<Box<dyn Finish + 'a>>
    where
        Self: 'a;
    /// Parts of so many elements each, which divide all, dealt out in turn: hand h of `hands` has parts h, h + hands, ….
    fn deal<'a>(self: Box<Self>, elements: usize, hands: usize) -> Vec<Hand<'a>>
    where
        Self: 'a;
}

/// Some parts of a port's elements: takes those of the part whose number it is given, counted among its own.
pub(crate) type Hand<'a> = Box<dyn FnMut(usize, &[f32]) + Send + 'a>;

/// Computes a core on the CPU and hands every port's elements, of the ports in order, to what
/// finishes them.
pub(crate) type Finishing = for<'a> fn(&mut Args<'_, f32>, Vec<Box<dyn Finish + 'a>>);

/// The text of a port that is left open ([`Port`](crate::kernel::Port)), to stand behind a kernel's WGSL.
///
/// `port!("finish")` defines `finish(scalars, replica, i, value)`, which returns `value`, and
/// `finish_scalars(replica)`; `port!("finish", before)` has the fifth parameter `before`.
#[macro_export]
macro_rules! port {
    ($name:literal) => {
        $crate::port!($name, "")
    };
    ($name:literal, before) => {
        $crate::port!($name, ", before: f32")
    };
    ($name:literal, $before:literal) => {
        concat!(
            "\nalias ",
            $name,
            "_once = f32;\n\nfn ",
            $name,
            "_scalars(replica: u32) -> f32 {\n    return 0.0;\n}\n\nfn ",
            $name,
            "(scalars: f32, replica: u32, i: u32, value: f32",
            $before,
            ") -> f32 {\n    return value;\n}\n"
        )
    };
}

impl Port {
    /// The port `finish` of a core whose threads hand over so many elements each, stored in `binding`.
    pub const fn finish(binding: usize, elements: &'static str) -> Self {
        Self {
            name: "finish",
            binding,
            before: None,
            partial: false,
            elements,
        }
    }

    /// The text of the port as [`port!`] leaves it open.
    pub(crate) fn open(&self) -> String {
        let Self { name, .. } = self;
        let before = if self.before.is_some() {
            ", before: f32"
        } else {
            ""
        };
        format!(
            "\nalias {name}_once = f32;\n\nfn {name}_scalars(replica: u32) -> f32 {{\n    return 0.0;\n}}\n\n\
             fn {name}(scalars: f32, replica: u32, i: u32, value: f32{before}) -> f32 {{\n    return \
             value;\n}}\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_an_open_port_are_one_text() {
        let port = |before| Port {
            name: "finish",
            binding: 0,
            before,
            partial: false,
            elements: "1",
        };
        assert_eq!(port(None).open(), crate::port!("finish"));
        assert_eq!(port(Some(1)).open(), crate::port!("finish", before));
    }
}
