//! Pictures in shards beside the same pictures as a whole: what an epoch takes, and what of the reading and
//! uploading is hidden behind training.
//!
//!     cargo run --release --example shards [cpu|gpu] [rows]
//!
//! The pictures are a file's, of bytes, written to the system's temporary folder first. Where the upload is
//! hidden, the last line says about 1.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use wgrad::Error;
use wgrad::data::{ArrayFiles, DataRef, DataSource, Shards};
use wgrad::exec::{Choice, Device};
use wgrad::fit::{Fit, Loss, Progress};
use wgrad::model::{Input, Model, layers::*};
use wgrad::optim::{AdamW, Optimizer};
use wgrad::rng::philox4x32;

const EXTENTS: [usize; 3] = [3, 32, 32];
const BATCH: usize = 64;
const EPOCHS: usize = 4;

fn main() -> wgrad::Result<()> {
    let (choice, rows) = asked(std::env::args().skip(1))?;
    let device = Device::open(choice)?;
    let folder = std::env::temp_dir().join(format!("wgrad-shards-{}", std::process::id()));
    let made = write(&folder, rows).map_err(|source| {
        Error::io(
            "write",
            &folder,
            source,
            "Make room in the temporary folder.",
        )
    });
    let told = made.and_then(|()| compare(&folder, &device));
    // Whatever became of it.
    let _ = std::fs::remove_dir_all(&folder);
    told
}

/// The device and the number of rows, `cpu` and 4096 where they are not given.
fn asked(mut arguments: impl Iterator<Item = String>) -> wgrad::Result<(Choice, usize)> {
    let choice = arguments.next().as_deref().unwrap_or("cpu").parse()?;
    let rows = match arguments.next() {
        None => 4096,
        Some(text) => match text.parse() {
            Ok(rows) if rows >= BATCH => rows,
            _ => {
                let wanted = format!("a whole number from {BATCH}, a mini-batch, on");
                return Err(Error::setting("rows", text, wanted));
            }
        },
    };
    match arguments.next() {
        None => Ok((choice, rows)),
        Some(other) => Err(Error::setting(
            "arguments",
            other,
            "a device and a number of rows",
        )),
    }
}

/// Noise that is a little lighter in class 1.
fn write(folder: &Path, rows: usize) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let file = |name: &str, shape: String| -> std::io::Result<_> {
        let file = std::fs::File::create(folder.join(name))?;
        let mut file = std::io::BufWriter::new(file);
        let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({shape}), }}\n");
        file.write_all(b"\x93NUMPY\x01\x00")?;
        file.write_all(&(header.len() as u16).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        Ok(file)
    };
    let [c, h, w] = EXTENTS;
    let mut pictures = file("pictures.npy", format!("{rows}, {c}, {h}, {w}"))?;
    let mut labels = file("labels.npy", format!("{rows},"))?;
    for row in 0..rows as u32 {
        let class = (row % 2) as u8;
        for i in 0..(c * h * w / 16) as u32 {
            let words = philox4x32([i, row, 0, 0], [7, 0]);
            let bytes = words.map(|word| (word & 0x7f7f_7f7f).to_le_bytes());
            pictures.write_all(
                &bytes
                    .concat()
                    .iter()
                    .map(|b| b + 16 * class)
                    .collect::<Vec<u8>>(),
            )?;
        }
        labels.write_all(&[class])?;
    }
    pictures.flush()?;
    labels.flush()
}

fn compare(folder: &Path, device: &Device) -> wgrad::Result<()> {
    let files = ArrayFiles::new().npy("input", folder.join("pictures.npy"))?;
    let files = files.npy("target", folder.join("labels.npy"))?;
    let rows = files.rows();
    let model = Model::sequential(Input::f32(EXTENTS))
        .then(Conv2d::new(16, 3).padding(1))
        .then(Relu)
        .then(MaxPool2d::new(2))
        .then(Conv2d::new(32, 3).padding(1))
        .then(Relu)
        .then(GlobalMean)
        .then(Dense::new(2))
        .build()?;
    // The last epoch's seconds: pipelines are compiled, and every epoch begins with a shard that is there.
    let seconds = |data: DataRef<'_>| -> wgrad::Result<f64> {
        let (mut before, mut last) = (Instant::now(), 0.0);
        let optimizer = Optimizer::new(AdamW::default(), 1e-3);
        let fit = Fit::new(&model, Loss::cross_entropy(), optimizer);
        let progress = Progress::new(|_: &wgrad::fit::Epoch| {
            last = before.elapsed().as_secs_f64();
            before = Instant::now();
        });
        fit.batch(BATCH)
            .epochs(EPOCHS)
            .with(progress)
            .run(data, device)?;
        Ok(last)
    };
    let shards = Shards::of(&files, rows.div_ceil(8).max(BATCH));
    let fit = Fit::new(
        &model,
        Loss::cross_entropy(),
        Optimizer::new(AdamW::default(), 1e-3),
    );
    if let Some(uploads) = fit.batch(BATCH).uploads(shards, device)? {
        println!("{}, {rows} pictures: {uploads:?}", device.info().name);
    }
    let whole = seconds(DataRef::Shards(Shards::of(&files, rows)))?;
    let sharded = seconds(DataRef::Shards(shards))?;
    let begun = Instant::now();
    for first in (0..rows).step_by(shards.shard_rows()) {
        files.read(first..rows.min(first + shards.shard_rows()))?;
    }
    let reading = begun.elapsed().as_secs_f64();
    println!("an epoch of data that lie there: {whole:.3} s; in shards: {sharded:.3} s");
    println!("reading all of them, alone: {reading:.3} s");
    println!("in shards / as a whole: {:.3}", sharded / whole);
    Ok(())
}
