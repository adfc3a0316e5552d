use std::fs::OpenOptions;
use std::io::Write;

use ndarray::{ArrayD, IxDyn};
use serde::Deserialize;

use super::*;
use crate::json::nullable;

/// A run that has a name.
#[derive(Debug, Serialize, Deserialize)]
struct Called(String);

/// Numbers of an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Numbers {
    epoch: usize,
    #[serde(with = "nullable")]
    loss: Vec<f64>,
}

impl Run for Called {
    type State = Vec<u32>;
    type Epoch = Numbers;

    fn refusal(&self, theirs: &Self) -> Option<Refusal> {
        (self.0 != theirs.0).then(|| Refusal {
            found: format!("a checkpoint of {}", theirs.0),
            wanted: format!("one of {}", self.0),
            fix: "Go elsewhere.".into(),
        })
    }
}

impl Line for Numbers {
    fn epoch(&self) -> usize {
        self.epoch
    }
    fn fits(&self, replicas: usize) -> bool {
        self.loss.len() == replicas
    }
}

/// A run's state and history after so many epochs.
type After = (Entry<Vec<u32>>, Vec<Numbers>);

fn after(epochs: usize) -> After {
    let flat = |name: &str, values: Vec<f32>| {
        let array = ArrayD::from_shape_vec(IxDyn(&[values.len()]), values);
        (name.to_string(), array.unwrap())
    };
    let entry = Entry {
        epochs,
        state: vec![7, 1000 + epochs as u32],
        tensors: vec![
            flat("w", vec![0.1, -2.0, epochs as f32]),
            flat("v", vec![3.0]),
        ],
    };
    let numbers = |epoch| Numbers {
        epoch,
        loss: vec![0.1 + epoch as f64],
    };
    (entry, (1..=epochs).map(numbers).collect())
}

fn store(folder: &Path, run: &str) -> Store<Called> {
    Store::open(folder, 2, 1, Called(run.into())).unwrap()
}

fn write(store: &mut Store<Called>, (entry, epochs): &After) {
    store.write(entry.clone(), epochs).unwrap();
}

/// The newest of this run, `None` where all are broken or there is none.
fn newest(store: &Store<Called>) -> Option<After> {
    let kept = store.newest().ok().flatten()?;
    Some((kept.entry, kept.epochs))
}

#[test]
fn the_last_ones_are_kept_and_other_files_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut a = store(folder.path(), "a");
    assert!(a.newest().unwrap().is_none());
    for name in ["notes.txt", "epoch-.safetensors", "epoch-1.safetensors.bak"] {
        fs::write(folder.path().join(name), "mine").unwrap();
    }
    for epochs in [8, 9, 10, 11] {
        write(&mut a, &after(epochs));
    }
    let listed = || list(folder.path()).unwrap();
    assert_eq!(listed(), [a.path(11), a.path(10)]);
    assert_eq!(newest(&a), Some(after(11)));
    // Someone else has tidied up meanwhile.
    fs::remove_file(a.path(10)).unwrap();
    write(&mut a, &after(12));
    assert_eq!(listed(), [a.path(12), a.path(11)]);
    a.clear().unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
}

#[test]
fn every_torn_or_changed_file_gives_way_to_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(folder.path(), "a");
    write(&mut store, &after(1));
    write(&mut store, &after(2));
    let good = fs::read(store.path(2)).unwrap();
    for length in 0..good.len() {
        fs::write(store.path(2), &good[..length]).unwrap();
        assert_eq!(newest(&store), Some(after(1)), "cut at {length}");
    }
    let mut passed_over = 0;
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 1;
        fs::write(store.path(2), &changed).unwrap();
        let newest = newest(&store);
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
    let mut store = store(folder.path(), "a");
    write(&mut store, &after(1));
    let one = fs::read(history::path(folder.path())).unwrap();
    write(&mut store, &after(2));
    let two = fs::read(history::path(folder.path())).unwrap();
    assert_eq!(two[..one.len()], one, "nothing is written twice");
    for length in 0..two.len() {
        fs::write(history::path(folder.path()), &two[..length]).unwrap();
        let wanted = (length >= one.len()).then(|| after(1));
        assert_eq!(newest(&store), wanted, "cut at {length}");
    }
    for at in 0..two.len() {
        let mut changed = two.clone();
        changed[at] ^= 1;
        fs::write(history::path(folder.path()), &changed).unwrap();
        let wanted = (at >= one.len()).then(|| after(1));
        assert_eq!(newest(&store), wanted, "byte {at}");
    }
    // A run that died between history and checkpoint has left a line that nobody counts, half of a long one.
    let left = format!("{{\"epoch\":3{}", " ".repeat(500));
    fs::write(
        history::path(folder.path()),
        [&two[..], left.as_bytes()].concat(),
    )
    .unwrap();
    assert_eq!(newest(&store), Some(after(2)));
    let found = store.newest().unwrap().unwrap();
    store.take_up(&found);
    write(&mut store, &after(3));
    assert_eq!(newest(&store), Some(after(3)));
    let lines = fs::read_to_string(history::path(folder.path())).unwrap();
    assert_eq!(lines.lines().count(), 3, "nothing is left of it: {lines}");
    // A history that somebody has removed under a run is written anew.
    fs::remove_file(history::path(folder.path())).unwrap();
    write(&mut store, &after(4));
    assert_eq!(newest(&store), Some(after(4)));
}

/// An earlier run of the same settings that went further.
#[test]
fn a_run_that_begins_anew_takes_the_place_of_an_earlier_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut earlier = store(folder.path(), "a");
    for epochs in 1..=6 {
        write(&mut earlier, &after(epochs));
    }
    for run in ["a", "b"] {
        let mut anew = store(folder.path(), run);
        // Until it has written something, nothing there is its own.
        assert!(anew.after(6).is_none());
        write(&mut anew, &after(1));
        assert_eq!(list(folder.path()).unwrap(), [anew.path(1)]);
        assert_eq!(newest(&anew), Some(after(1)));
        write(&mut anew, &after(2));
        assert!(anew.after(1).is_some());
        // One that becomes another run has written nothing as such.
        anew.begin(Called("c".into()));
        assert!(anew.after(1).is_none());
    }
}

#[test]
fn another_runs_checkpoint_is_refused_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let a = store(folder.path(), "a");
    assert!(a.newest().unwrap().is_none());
    write(&mut store(folder.path(), "b"), &after(3));
    let refusal = |a: &Store<Called>| a.newest().unwrap_err().to_string();
    let said = refusal(&a);
    assert!(said.contains("epoch-0000003.safetensors"), "{said}");
    assert!(
        said.contains("a checkpoint of b; wanted one of a"),
        "{said}"
    );
    // Also where a newer one is broken, which is the lesser reason.
    fs::write(a.path(4), "torn").unwrap();
    assert_eq!(refusal(&a), said);
    // One whose content is gone still says nothing good.
    fs::write(a.path(3), "torn").unwrap();
    let said = refusal(&a);
    assert!(
        said.contains("epoch-0000004") && said.contains(ANEW),
        "{said}"
    );
    // What is known of a run only later counts, too.
    let known = store(folder.path(), "b");
    fs::remove_file(a.path(4)).unwrap();
    write(&mut store(folder.path(), "b"), &after(3));
    let kept = known.newest().unwrap().unwrap();
    known.check(&kept).unwrap();
    let mut other = known;
    other.run_mut().0 = "d".into();
    assert!(other.check(&kept).is_err());
}

/// Lists out of a file are indexed by replica later.
#[test]
fn a_history_of_other_replicas_gives_way_too() {
    let changes: [fn(&mut Numbers); 4] = [
        |e| e.loss.clear(),
        |e| e.loss.push(0.0),
        |e| e.epoch = 1,
        |e| e.epoch = 3,
    ];
    for change in changes {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(folder.path(), "a");
        write(&mut store, &after(1));
        let mut wrong = after(2);
        change(&mut wrong.1[1]);
        write(&mut store, &wrong);
        assert_eq!(newest(&store), Some(after(1)));
    }
    // Epochs that were not evaluated are missing in a history.
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(folder.path(), "a");
    let mut gaps = after(4);
    gaps.1.remove(1);
    gaps.1.remove(2);
    write(&mut store, &gaps);
    assert_eq!(newest(&store), Some(gaps));
}

/// A loss that is not finite is `null` in JSON, and no reason to call the file torn.
#[test]
fn what_is_not_finite_survives_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(folder.path(), "a");
    let mut with = after(1);
    with.1[0].loss = vec![f64::INFINITY];
    write(&mut store, &with);
    assert!(newest(&store).unwrap().1[0].loss[0].is_nan());
}

/// However many epochs there were, the next one writes as much.
#[test]
fn an_epoch_writes_no_more_than_those_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(folder.path(), "a");
    let length = |path: PathBuf| fs::metadata(path).unwrap().len();
    let (mut history, mut written) = (0, vec![]);
    // What is written again would be sound again.
    let path = history::path(folder.path());
    let spoil = |byte: u8| {
        let mut file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all(&[byte]).unwrap();
    };
    for epochs in 1..=300 {
        if epochs > 1 {
            spoil(b'!');
        }
        write(&mut store, &after(epochs));
        if epochs > 1 {
            let first = fs::read(history::path(folder.path())).unwrap()[0];
            assert_eq!(
                first, b'!',
                "epoch {epochs} has written the first one again"
            );
            spoil(b'{');
        }
        let now = length(history::path(folder.path()));
        written.push(now - history + length(store.path(epochs)));
        history = now;
    }
    // Numbers grow by two digits, in the line and in the header.
    assert!(written[299] <= written[2] + 64, "{written:?}");
    assert_eq!(newest(&store), Some(after(300)));
}
