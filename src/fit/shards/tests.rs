use super::*;
use crate::data::Numbers;
use crate::exec::{Choice, Device};
use crate::fit::{Fit, Loss};
use crate::graph::Graph;
use crate::model::{Model, layers::*};
use crate::optim::{Optimizer, Sgd};
use crate::shape::Type;

/// 103 rows of three bytes, a number and a column that nobody asks for.
fn data() -> Dataset {
    let bytes: Vec<u8> = (0..=255).cycle().take(309).collect();
    let data = Dataset::new().with("input", [3], Numbers::bytes(bytes));
    let data = data.unwrap().with("target", [1], vec![0.5f32; 103]);
    data.unwrap().with("other", [], vec![1u32; 103]).unwrap()
}

/// What goes up in an epoch is what the account says, whole shards or not; steps upload nothing.
#[test]
fn an_epoch_uploads_what_its_account_says() {
    let (model, data) = (Model::sequential([3]).then(Dense::new(1)), data());
    let (model, device) = (model.build().unwrap(), Device::open(Choice::Cpu).unwrap());
    let optimizer = || Optimizer::new(Sgd::default(), 0.1);
    let fit = || {
        Fit::new(&model, Loss::mse(), optimizer())
            .batch(10)
            .replicas(2)
    };
    assert_eq!(fit().uploads(&data, &device).unwrap(), None);
    let shards = Shards::of(&data, 35);
    let told = fit().uploads(shards, &device).unwrap().unwrap();
    assert_eq!(told.shard_rows, 30);
    // 90 bytes in 23 words, 30 numbers.
    assert_eq!(told.shard_bytes, 4 * (23 + 30));
    let given = Given::open("training", shards.into()).unwrap();
    let fit = fit();
    let (needs, mut training) = fit.compiled(&given, &device).unwrap();
    let mut epochs = fit.epochs_over(&given, &training, &needs).unwrap();
    let mut number = 0;
    for epoch in 0..6 {
        let account = epochs.uploads(epoch).unwrap();
        if epoch == 0 {
            assert_eq!(account, told);
        }
        // By hand: every shard's words, and the orders of those that are not 30 rows, of both replicas.
        let shards = epochs.order.shards(epoch);
        assert_eq!(
            shards.iter().map(ExactSizeIterator::len).sum::<usize>(),
            100
        );
        let words = |rows: usize| (3 * rows).div_ceil(4) + rows;
        let short = shards.iter().filter(|s| s.len() < 30).count();
        let by_hand = shards.iter().map(|s| words(s.len())).sum::<usize>() + short * 2 * 30;
        assert_eq!(account.epoch_bytes, 4 * by_hand as u64);
        assert_eq!(account.shards, shards.len());
        number += short;
        // Alone, since what an epoch uploads ahead is the next one's.
        let before = training.session.traffic();
        epochs
            .train(&mut training.session, epoch, false, &mut |_| Ok(u64::MAX))
            .unwrap();
        let after = training.session.traffic();
        assert_eq!(after.uploaded - before.uploaded, account.epoch_bytes);
        assert_eq!(after.readbacks, before.readbacks);
    }
    assert!(number > 5, "{number} shards that are not full");
}

/// The first shard of an epoch goes up in the epoch before.
#[test]
fn the_first_shard_of_an_epoch_is_uploaded_ahead() {
    let (model, data) = (Model::sequential([3]).then(Dense::new(1)), data());
    let (model, device) = (model.build().unwrap(), Device::open(Choice::Cpu).unwrap());
    let fit = Fit::new(&model, Loss::mse(), Optimizer::new(Sgd::default(), 0.1)).batch(10);
    let given = Given::open("training", Shards::of(&data, 20).into()).unwrap();
    let (needs, mut training) = fit.compiled(&given, &device).unwrap();
    let mut epochs = fit.epochs_over(&given, &training, &needs).unwrap();
    let first = |epochs: &Epochs<'_>, epoch: usize| {
        let first = epochs.order.shards(epoch).remove(0);
        epochs.feed.bytes(first.len()).unwrap()
    };
    let mut uploaded = |epochs: &mut Epochs<'_>, epoch, more| {
        let before = training.session.traffic().uploaded;
        epochs
            .train(&mut training.session, epoch, more, &mut |_| Ok(u64::MAX))
            .unwrap();
        training.session.traffic().uploaded - before
    };
    let account = |epochs: &Epochs<'_>, epoch| epochs.uploads(epoch).unwrap().epoch_bytes;
    let begun = uploaded(&mut epochs, 0, true);
    assert_eq!(begun, account(&epochs, 0) + first(&epochs, 1));
    assert_eq!(epochs.ahead(), Some(1));
    let ended = uploaded(&mut epochs, 1, false);
    assert_eq!(ended, account(&epochs, 1) - first(&epochs, 1));
    assert_eq!(epochs.ahead(), None);
    // An epoch that nobody has prepared reads its first shard itself.
    assert_eq!(uploaded(&mut epochs, 5, false), account(&epochs, 5));
}

#[test]
fn a_shard_goes_up_whole_in_any_number_of_parts() {
    let mut graph = Graph::new();
    let mut pair = |name: &str, ty: Type| {
        let mut variable = |name: &str| {
            let value = graph.variable(name, ty.clone().shared()).unwrap();
            graph.handle::<Host>(value).unwrap()
        };
        Pair {
            column: name.into(),
            present: variable(name),
            next: variable(&format!("{name}, next")),
        }
    };
    let pairs = [
        pair("a", Type::f32("a", &[5]).unwrap()),
        pair("b", Type::u32("b", &[8]).unwrap()),
        pair("c", Type::u32("c", &[1]).unwrap()),
    ];
    let shard = || {
        let a = Host::F32(vec![1.0, 2.0, 3.0, 4.0, 5.0]);
        vec![a, Host::U32((10..18).collect()), Host::U32(vec![7])]
    };
    let device = Device::open(Choice::Cpu).unwrap();
    for parts in [1, 2, 3, 5, 14, 100] {
        let mut session = Session::new(&graph, &device).unwrap();
        let mut upload = Upload::new(shard());
        for k in 0..parts {
            upload.part(&mut session, &pairs, parts - k).unwrap();
        }
        for (pair, wanted) in pairs.iter().zip(shard()) {
            session.swap(pair.present, pair.next).unwrap();
            assert_eq!(session.read(pair.present).unwrap(), wanted, "{parts} parts");
        }
        assert_eq!(session.traffic().uploaded, 4 * 14);
    }
}
