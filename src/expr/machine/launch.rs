//! A launch's elements, chunk by chunk.

use super::loops::{Values, binary, both, compare, each, select, summed, truth, unary};
use super::{CHUNK, Launch, Layout, Place, Room, with_room};
use crate::expr::{Binary, Form};
use crate::rng::{Stream, uniform};
use crate::tensor::Real;

impl<T: Real> Launch<'_, '_, T> {
    /// Where element `i` of the results has its element of an input.
    fn place(&self, input: u32, i: usize) -> usize {
        match self.machine.inputs[input as usize].access {
            Layout::Each | Layout::Table | Layout::Given => i,
            Layout::One => 0,
            Layout::Along(_) => {
                let axes = self.axes[input as usize].iter();
                axes.map(|[div, extent, stride]| i / div % extent * stride)
                    .sum()
            }
        }
    }

    fn stored(&self, input: u32, place: usize) -> T {
        match self.machine.inputs[input as usize].integer {
            true => T::of(f64::from(self.integers[input as usize][place])),
            false => self.floats[input as usize][place],
        }
    }

    pub(super) fn element(&self, input: u32, i: usize) -> T {
        self.stored(input, self.place(input, i))
    }

    /// An element of a table, the nearest there is; NaN counts to the first.
    pub(super) fn at(&self, input: u32, index: f64) -> T {
        let k = input as usize;
        let last = self.floats[k].len().max(self.integers[k].len()) - 1;
        self.stored(input, (index.floor().max(0.0) as usize).min(last))
    }

    /// Elements `first` and those after it of the outputs, whose memory there is `outputs`; `given` are
    /// those that a core has handed over.
    pub(super) fn part(&self, first: usize, outputs: &mut [&mut [T]], given: &[T]) {
        let n = outputs[0].len();
        self.elements(first, 0..n, outputs, given);
    }

    /// The elements at `places` of the outputs, the first of which is number `first` of the replica.
    pub(super) fn elements(
        &self,
        first: usize,
        places: std::ops::Range<usize>,
        outputs: &mut [&mut [T]],
        given: &[T],
    ) {
        if let (Some(affine), true, [to]) =
            (self.machine.affine, self.runs.are_all(), &mut *outputs)
        {
            let of_replica = first..first + places.len();
            return self.affine(affine, of_replica, given, &mut to[places]);
        }
        with_room(self.machine, |room| {
            pulp::Arch::new().dispatch(Chunks {
                launch: self,
                first,
                places,
                outputs,
                given,
                room,
            });
        });
    }

    #[inline(always)]
    fn chunk(
        &self,
        first: usize,
        range: std::ops::Range<usize>,
        outputs: &mut [&mut [T]],
        given: &[T],
        room: &mut Room<T>,
    ) {
        let Room {
            registers,
            words,
            alike,
            ..
        } = room;
        let machine = self.machine;
        let n = range.len();
        for &line in &machine.active {
            if self.runs.has(line) {
                continue;
            }
            let form = machine.program.forms()[line];
            // What is written leaves the list, so that the others can be read.
            let place = machine.places[line];
            let mut register = Vec::new();
            let mut output: &mut [T] = &mut [];
            let to: &mut [T] = match place {
                Place::Uniform | Place::Input | Place::Inside => continue,
                Place::Output(k) | Place::Over(k) => {
                    output = std::mem::take(&mut outputs[k]);
                    &mut output[range.clone()]
                }
                Place::Register(r) => {
                    register = std::mem::take(&mut registers[r]);
                    &mut register[..n]
                }
            };
            let of = |line: u32| match machine.places[line as usize] {
                _ if self.runs.has(line as usize) => Values::One(alike[line as usize]),
                Place::Uniform => Values::One(self.uniform[line as usize]),
                // What is being computed there is read there.
                Place::Output(k) if place == Place::Over(k) => Values::Old,
                Place::Output(k) | Place::Over(k) => Values::Many(&outputs[k][range.clone()]),
                Place::Register(r) => Values::Many(&registers[r][..n]),
                Place::Input => Values::Many(self.direct(line, first, n, given)),
                Place::Inside => Values::Many(&[]),
            };
            let product = |line: u32| match machine.program.forms()[line as usize] {
                Form::Binary(Binary::Mul, a, b)
                    if machine.places[line as usize] == Place::Inside =>
                {
                    Some((of(a), of(b)))
                }
                _ => None,
            };
            match form {
                Form::Input(k) => match machine.inputs[k as usize].updated_by {
                    Some(output) => to.copy_from_slice(&outputs[output][range.clone()]),
                    None => self.spread(k, first, to),
                },
                Form::At(k, index) => each(of(index), to, |x| self.at(k, x.wide())),
                Form::Uniform(stream) => {
                    self.draw(stream, first, n, words);
                    for (to, &word) in to.iter_mut().zip(&words[first % 4..]) {
                        *to = T::of(f64::from(uniform(word)));
                    }
                }
                Form::Chance(stream, threshold) => {
                    let threshold = self.thresholds[threshold as usize];
                    self.draw(stream, first, n, words);
                    for (to, &word) in to.iter_mut().zip(&words[first % 4..]) {
                        *to = truth(word >= threshold);
                    }
                }
                Form::Unary(op, a) => unary(op, of(a), to),
                Form::Binary(op, a, b) => match (product(a), product(b)) {
                    (_, Some(product)) => summed(op, [of(a), product.0, product.1], true, to),
                    (Some(product), _) => summed(op, [of(b), product.0, product.1], false, to),
                    _ => binary(op, of(a), of(b), to),
                },
                Form::Compare(op, a, b) => compare(op, of(a), of(b), to),
                Form::Not(a) => each(of(a), to, |x| truth(x == T::ZERO)),
                Form::And(a, b) => both(of(a), of(b), to, |a, b| a * b),
                Form::Or(a, b) => both(of(a), of(b), to, |a, b| truth(a + b != T::ZERO)),
                Form::Select(c, a, b) => select(of(c), of(a), of(b), to),
                Form::Constant(_) | Form::Parameter(_) | Form::Step => {}
            }
            match place {
                Place::Output(k) | Place::Over(k) => outputs[k] = output,
                Place::Register(r) => registers[r] = register,
                _ => {}
            }
        }
        for (k, &line) in machine.program.outputs().iter().enumerate() {
            let to = std::mem::take(&mut outputs[k]);
            let part = &mut to[range.clone()];
            match machine.places[line as usize] {
                Place::Output(other) | Place::Over(other) if other == k => {}
                Place::Output(other) | Place::Over(other) => {
                    part.copy_from_slice(&outputs[other][range.clone()])
                }
                Place::Uniform => part.fill(self.uniform[line as usize]),
                Place::Register(r) => part.copy_from_slice(&registers[r][..n]),
                Place::Input => part.copy_from_slice(self.direct(line, first, n, given)),
                Place::Inside => {}
            }
            outputs[k] = to;
        }
    }

    /// The values of a line that is an input as it stands.
    #[inline(always)]
    fn direct<'b>(&'b self, line: u32, first: usize, n: usize, given: &'b [T]) -> &'b [T] {
        match self.machine.program.forms()[line as usize] {
            Form::Input(k) if self.machine.inputs[k as usize].access == Layout::Given => given,
            Form::Input(k) => &self.floats[k as usize][first..first + n],
            _ => &[],
        }
    }

    /// An input's elements, one for each result from `first` on.
    fn spread(&self, input: u32, first: usize, to: &mut [T]) {
        let innermost = self.axes[input as usize].last();
        let Some(&[div, extent, stride]) = innermost else {
            for (i, to) in to.iter_mut().enumerate() {
                *to = self.element(input, first + i);
            }
            return;
        };
        // Runs: of one element where the innermost axis is not its own, else of neighbours.
        let run = if div > 1 { div } else { extent };
        let mut i = first;
        let mut rest = to;
        while !rest.is_empty() {
            let length = (run - i % run).min(rest.len());
            let (now, later) = std::mem::take(&mut rest).split_at_mut(length);
            let place = self.place(input, i);
            if div > 1 {
                now.fill(self.stored(input, place));
            } else if stride == 1 && !self.machine.inputs[input as usize].integer {
                now.copy_from_slice(&self.floats[input as usize][place..place + length]);
            } else {
                for (k, to) in now.iter_mut().enumerate() {
                    *to = self.stored(input, place + k * stride);
                }
            }
            i += length;
            rest = later;
        }
    }

    /// The words of a stream for elements `first` and those after it, and before them those of
    /// `first`'s block.
    fn draw(&self, stream: u32, first: usize, n: usize, words: &mut Vec<u32>) {
        let stream = Stream::of_keys(self.keys, self.streams[stream as usize]);
        words.clear();
        while words.len() < n + first % 4 {
            let block = (first + words.len()) / 4;
            words.extend(stream.many_words(self.now, block as u32).as_flattened());
        }
    }
}

/// Chunks of a launch, in vectors of the processor's own width.
struct Chunks<'l, 'm, 'a, 'o, 'b, T> {
    launch: &'l Launch<'m, 'a, T>,
    first: usize,
    places: std::ops::Range<usize>,
    outputs: &'b mut [&'o mut [T]],
    given: &'b [T],
    room: &'b mut Room<T>,
}

impl<T: Real> pulp::WithSimd for Chunks<'_, '_, '_, '_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let (n, mut start) = (self.places.len(), 0);
        while start < n {
            let first = self.first + start;
            self.launch.enter(first, self.room);
            let end = (start + CHUNK).min(n);
            let end = end.min(self.launch.runs.end(first).saturating_sub(self.first));
            let range = self.places.start + start..self.places.start + end;
            let given = self.given.get(start..end).unwrap_or(&[]);
            self.launch
                .chunk(first, range, self.outputs, given, self.room);
            start = end;
        }
    }
}
