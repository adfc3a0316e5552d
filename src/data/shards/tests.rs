use super::*;

fn order(rows: usize, batch: usize, shard: usize) -> Order {
    Order {
        seed: 11,
        rows,
        batch,
        shard,
    }
}

#[test]
fn every_row_is_in_one_shard_of_an_epoch() {
    for (rows, batch, shard) in [
        (1, 1, 1),
        (5, 1, 1),
        (12, 3, 3),
        (12, 3, 6),
        (12, 3, 9),
        (13, 3, 6),
        (100, 7, 21),
        (101, 10, 30),
        (64, 64, 64),
    ] {
        let order = order(rows, batch, shard);
        let mut left_out = std::collections::BTreeSet::new();
        for epoch in 0..40 {
            let mut seen = vec![0; rows];
            let shards = order.shards(epoch);
            for shard in &shards {
                assert!(!shard.is_empty() && shard.len() % batch == 0, "{shard:?}");
                assert!(shard.len() <= order.shard);
                shard.clone().for_each(|row| seen[row] += 1);
            }
            // What is left over is less than a mini-batch.
            let most = rows.div_ceil(shard) + 1;
            assert!(shards.len() <= most, "{} of {most}", shards.len());
            assert!(seen.iter().all(|&n| n <= 1));
            assert_eq!(seen.iter().sum::<i32>() as usize, order.steps() * batch);
            let missing = (0..rows).filter(|&row| seen[row] == 0);
            left_out.extend(missing);
        }
        // Other rows in other epochs.
        let over = rows % batch;
        assert!(over == 0 && left_out.is_empty() || left_out.len() > over);
    }
}

#[test]
fn orders_follow_from_seed_and_epoch_and_differ() {
    let order = order(1000, 10, 50);
    assert_eq!(order.shards(3), order.shards(3));
    let other = Order { seed: 12, ..order };
    let all = [order.shards(0), order.shards(1), other.shards(0)];
    assert!(all[0] != all[1] && all[0] != all[2]);
    // Neighbours of one epoch's shard are parted in another.
    let mut firsts: Vec<_> = all
        .map(|shards| shards.iter().map(|s| s.start % 50).max())
        .into();
    firsts.dedup();
    assert!(firsts.len() > 1, "{firsts:?}");
}

#[test]
fn the_first_row_of_an_epoch_is_drawn_evenly() {
    // Ten steps, so eleven places to begin, of which two look alike: χ² with 9 degrees of freedom.
    let order = order(100, 10, 100);
    let mut counts = [0f64; 11];
    let epochs = 2200;
    for epoch in 0..epochs {
        let last = order.shards(epoch).into_iter().find(|s| s.start == 0);
        counts[last.map_or(0, |s| s.len() / 10 % 11)] += 1.0;
    }
    // A shard of all rows begins at 0 as well as at the end.
    let expected = epochs as f64 / 11.0;
    let chi2 = counts[1..10]
        .iter()
        .map(|c| (c - expected).powi(2) / expected);
    let ends = (counts[0] + counts[10] - 2.0 * expected).powi(2) / (2.0 * expected);
    let chi2 = chi2.sum::<f64>() + ends;
    assert!(chi2 < 27.9, "χ² = {chi2}, p < 0.001");
}

fn bytes() -> Dataset {
    let pictures: Vec<u8> = (0..30).collect();
    let labels: Vec<u32> = (0..10).collect();
    let data = Dataset::new().with("image", [3], Numbers::bytes(pictures));
    data.unwrap().with("label", [], labels).unwrap()
}

#[test]
fn shards_take_at_most_the_bytes_that_they_may() {
    let data = bytes();
    // Seven rows: 21 bytes in six words, and seven labels, twice.
    let most = |bytes| Shards::within(&data, bytes).map(|s| s.shard_rows());
    assert_eq!(most(2 * 4 * 13).unwrap(), 7);
    assert_eq!(most(2 * 4 * 13 - 1).unwrap(), 6);
    assert_eq!(most(1 << 40).unwrap(), 10);
    let error = most(15).unwrap_err().to_string();
    assert!(error.contains("found 15; wanted 16 or more"), "{error}");
    // Windows share what they overlap in.
    let text = Dataset::windows((0..100).collect(), 8).unwrap();
    let shards = Shards::within(&text, 2 * 4 * 2 * (20 + 7)).unwrap();
    assert_eq!(shards.shard_rows(), 20);
}

#[test]
fn what_rows_are_on_a_device_is_their_words() {
    let data = bytes();
    let part = data.range(3..5).unwrap();
    let column = part.column("image").unwrap();
    assert_eq!(
        content(column, 2),
        Host::U32(vec![0x0c0b_0a09, 0x0000_0e0d])
    );
    assert_eq!(words(column, 2), 2);
    let text = Dataset::windows((0..100).collect(), 3).unwrap();
    let part = text.range(10..12).unwrap();
    let target = part.column("target").unwrap();
    assert_eq!(content(target, 2), Host::U32(vec![11, 12, 13, 14]));
}

/// A source that is not what it says.
#[derive(Debug)]
struct Lies(Option<Dataset>, usize);

impl DataSource for Lies {
    fn rows(&self) -> usize {
        self.1
    }

    fn read(&self, rows: Range<usize>) -> Result<Dataset> {
        match &self.0 {
            Some(other) if rows.start > 0 => Ok(other.clone()),
            _ => bytes().range(0..rows.len().min(10)),
        }
    }
}

#[test]
fn sources_are_held_to_what_they_say() {
    let empty = Lies(None, 0);
    let error = Shards::of(&empty, 3).sample().unwrap_err().to_string();
    assert_eq!(
        error,
        "rows of a data source: found none; wanted one or more"
    );
    let told = |other: Dataset, wanted: &str| {
        let lies = Lies(Some(other), 100);
        let shards = Shards::of(&lies, 2);
        let sample = shards.sample().unwrap();
        let error = shards.read(4..6, &sample).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    };
    told(
        bytes().range(0..3).unwrap(),
        "found 3; wanted the 2 that were asked for",
    );
    let two = || Dataset::new().with("label", [], vec![1u32, 2]).unwrap();
    told(two(), "unknown column `image`");
    let floats = two().with("image", [3], vec![0.5f32; 6]).unwrap();
    told(floats, "found floats [3] a row; wanted bytes [3] a row");
    let wide = two()
        .with("image", [4], Numbers::bytes(vec![1; 8]))
        .unwrap();
    told(wide, "column image: found bytes [4] a row");
    let scaled = Numbers::U8(vec![1; 6].into(), 1.0);
    told(two().with("image", [3], scaled).unwrap(), "times 1;");
}

#[test]
fn the_identity_of_a_source_is_that_of_its_rows() {
    let of = |data: &Dataset| DataSource::identity(data).unwrap();
    let data = bytes();
    assert_eq!(of(&data), of(&bytes()));
    let mut all = vec![of(&data), of(&data.range(0..9).unwrap())];
    let other = data.select(&[1, 0, 2, 3, 4, 5, 6, 7, 8, 9]).unwrap();
    all.push(of(&other));
    let numbers: Vec<f32> = (0..9000).map(|i| i as f32).collect();
    for changed in [0, 4095, 4096, 8999] {
        let mut numbers = numbers.clone();
        numbers[changed] += 0.5;
        all.push(of(&Dataset::new().with("input", [], numbers).unwrap()));
    }
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), count);
}
