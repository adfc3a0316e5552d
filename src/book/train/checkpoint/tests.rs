use super::*;

fn epoch(epoch: usize) -> Epoch {
    Epoch {
        epoch,
        training_cost: vec![0.1 + epoch as f64],
        training_accuracy: vec![0.5],
        validation_accuracy: vec![0.25],
        test_accuracy: vec![1.0 / 3.0],
        validation_cost: vec![2.0 / 3.0],
        test_cost: vec![0.7],
        set_cost: vec![],
        set_accuracy: vec![],
        penalty: vec![],
        seconds: 0.125,
    }
}

/// A run's state and history after so many epochs.
type After = (State, Vec<Epoch>);

fn after(epochs: usize) -> After {
    let state = State {
        epochs,
        origins: vec![Origin {
            version: "0.1.0".into(),
            device: "the CPU".into(),
        }],
        buffers: vec![
            ("w".into(), vec![0.1, -2.0, epochs as f32]),
            ("v".into(), vec![3.0]),
        ],
    };
    (state, (1..=epochs).map(epoch).collect())
}

fn keeper(folder: &Path, run: &str) -> Keeper {
    Keeper::new(folder, 2, Identity::called(run), 1).unwrap()
}

fn write(keeper: &mut Keeper, (state, history): &After) {
    keeper.write(state, history).unwrap();
}

fn newest(keeper: &Keeper) -> Option<After> {
    let newest = keeper.newest().unwrap()?;
    Some((newest.state, newest.history))
}

#[test]
fn the_last_ones_are_kept_and_others_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (mut a, mut b) = (keeper(folder.path(), "a"), keeper(folder.path(), "b"));
    assert_eq!(newest(&a), None);
    write(&mut b, &after(1));
    for epochs in [8, 9, 10, 11] {
        write(&mut a, &after(epochs));
    }
    assert_eq!(a.list().unwrap(), [a.path(11), a.path(10)]);
    assert_eq!(newest(&a), Some(after(11)));
    assert_eq!(newest(&b), Some(after(1)));
    // Someone else has tidied up meanwhile.
    fs::remove_file(a.path(10)).unwrap();
    write(&mut a, &after(12));
    assert_eq!(a.list().unwrap(), [a.path(12), a.path(11)]);
}

#[test]
fn every_torn_or_changed_file_gives_way_to_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = keeper(folder.path(), "a");
    write(&mut keeper, &after(1));
    write(&mut keeper, &after(2));
    let good = fs::read(keeper.path(2)).unwrap();
    for length in 0..good.len() {
        fs::write(keeper.path(2), &good[..length]).unwrap();
        assert_eq!(newest(&keeper), Some(after(1)), "cut at {length}");
    }
    let mut passed_over = 0;
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 1;
        fs::write(keeper.path(2), &changed).unwrap();
        let newest = newest(&keeper);
        // A changed byte in what is not content (the version, say) changes nothing.
        assert!(
            newest == Some(after(1)) || newest == Some(after(2)),
            "byte {at}"
        );
        passed_over += usize::from(newest == Some(after(1)));
    }
    assert!(
        passed_over * 10 > good.len() * 8,
        "{passed_over} of {}",
        good.len()
    );
}

/// The history's file: what its end has lost costs the checkpoints that count it, and no more.
#[test]
fn a_torn_history_gives_way_to_what_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = keeper(folder.path(), "a");
    write(&mut keeper, &after(1));
    let one = fs::read(keeper.history_path()).unwrap();
    write(&mut keeper, &after(2));
    let two = fs::read(keeper.history_path()).unwrap();
    assert_eq!(two[..one.len()], one, "nothing is written twice");
    for length in 0..two.len() {
        fs::write(keeper.history_path(), &two[..length]).unwrap();
        let wanted = (length >= one.len()).then(|| after(1));
        assert_eq!(newest(&keeper), wanted, "cut at {length}");
    }
    for at in 0..two.len() {
        let mut changed = two.clone();
        changed[at] ^= 1;
        fs::write(keeper.history_path(), &changed).unwrap();
        let wanted = (at >= one.len()).then(|| after(1));
        assert_eq!(newest(&keeper), wanted, "byte {at}");
    }
    // A run that died between history and checkpoint has left a line that nobody counts.
    fs::write(keeper.history_path(), [&two[..], b"{\"epoch\":3"].concat()).unwrap();
    assert_eq!(newest(&keeper), Some(after(2)));
    let found = keeper.newest().unwrap().unwrap();
    keeper.take_up(&found);
    write(&mut keeper, &after(3));
    assert_eq!(newest(&keeper), Some(after(3)));
    // A history that somebody has removed under a run is written anew.
    fs::remove_file(keeper.history_path()).unwrap();
    write(&mut keeper, &after(4));
    assert_eq!(newest(&keeper), Some(after(4)));
}

/// An earlier run of the same settings that went further.
#[test]
fn a_run_that_begins_anew_takes_the_place_of_an_earlier_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut earlier = keeper(folder.path(), "a");
    for epochs in 1..=6 {
        write(&mut earlier, &after(epochs));
    }
    let mut anew = keeper(folder.path(), "a");
    // Until it has written something, nothing there is its own.
    assert!(anew.after(6).is_none());
    write(&mut anew, &after(1));
    assert_eq!(anew.list().unwrap(), [anew.path(1)]);
    assert_eq!(newest(&anew), Some(after(1)));
    write(&mut anew, &after(2));
    assert!(anew.after(1).is_some());
    // All runs' at once.
    write(&mut keeper(folder.path(), "b"), &after(3));
    fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    anew.clear().unwrap();
    assert_eq!(anew.names().unwrap(), ["notes.txt"]);
}

#[test]
fn another_runs_checkpoint_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut a = keeper(folder.path(), "a");
    assert!(a.stranger().unwrap().is_none());
    write(&mut keeper(folder.path(), "b"), &after(3));
    let said = a.stranger().unwrap().unwrap().to_string();
    assert!(said.contains("-0000003.safetensors"), "{said}");
    assert!(
        said.contains("a run with called b; wanted called a, as"),
        "{said}"
    );
    // An equal run under another name is this one.
    let mut renamed = keeper(folder.path(), "b");
    renamed.name = "0123456789abcdef".into();
    assert!(renamed.list().unwrap().is_empty());
    assert!(renamed.stranger().unwrap().is_none());
    assert_eq!(newest(&renamed), Some(after(3)));
    // One whose content is gone still says nothing good.
    let path = keeper(folder.path(), "b").path(3);
    fs::write(&path, "torn").unwrap();
    assert!(a.stranger().unwrap().is_some());
}

/// Lists out of a file are indexed by replica later.
#[test]
fn a_history_of_other_replicas_gives_way_too() {
    let changes: [fn(&mut Epoch); 5] = [
        |e| e.validation_accuracy.clear(),
        |e| e.test_cost.push(0.0),
        |e| e.penalty = vec![0.0; 2],
        |e| e.epoch = 1,
        |e| e.epoch = 3,
    ];
    for change in changes {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = keeper(folder.path(), "a");
        write(&mut keeper, &after(1));
        let mut wrong = after(2);
        change(&mut wrong.1[1]);
        write(&mut keeper, &wrong);
        assert_eq!(newest(&keeper), Some(after(1)));
    }
    // Epochs that were not evaluated are missing in a history.
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = keeper(folder.path(), "a");
    let mut gaps = after(4);
    gaps.1.remove(1);
    gaps.1.remove(2);
    write(&mut keeper, &gaps);
    assert_eq!(newest(&keeper), Some(gaps));
}

/// A cost that is not finite is `null` in JSON, and no reason to call the file torn.
#[test]
fn what_is_not_finite_survives_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = keeper(folder.path(), "a");
    let mut with = after(1);
    with.1[0].set_cost = vec![f64::INFINITY];
    with.1[0].test_cost[0] = f64::NAN;
    write(&mut keeper, &with);
    let back = newest(&keeper).unwrap().1.remove(0);
    assert!(back.set_cost[0].is_nan() && back.test_cost[0].is_nan());
    assert_eq!(back.validation_cost, with.1[0].validation_cost);
}

/// However many epochs there were, the next one writes as much.
#[test]
fn an_epoch_writes_no_more_than_those_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = keeper(folder.path(), "a");
    let length = |path: PathBuf| fs::metadata(path).unwrap().len();
    let (mut history, mut written) = (0, vec![]);
    // What is written again would be sound again.
    let path = keeper.history_path();
    let spoil = |byte: u8| {
        let mut file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all(&[byte]).unwrap();
    };
    for epochs in 1..=300 {
        if epochs > 1 {
            spoil(b'!');
        }
        write(&mut keeper, &after(epochs));
        if epochs > 1 {
            let first = fs::read(keeper.history_path()).unwrap()[0];
            assert_eq!(
                first, b'!',
                "epoch {epochs} has written the first one again"
            );
            spoil(b'{');
        }
        let now = length(keeper.history_path());
        written.push(now - history + length(keeper.path(epochs)));
        history = now;
    }
    // Numbers grow by two digits, in the line and in the header.
    assert!(written[299] <= written[2] + 64, "{written:?}");
    assert_eq!(newest(&keeper), Some(after(300)));
}
