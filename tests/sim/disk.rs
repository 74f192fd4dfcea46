//! The disk: real files in memory, and beside them what of each would survive a power cut.
//!
//! A name survives as it was at the latest fsync of its folder, or as it was at any moment since, each name for itself. Bytes
//! survive if their file was fsynced; what was written since survives write by write, or not. So a cut brings every state back
//! that the calls allow, and some that no file system would leave.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use statuslist::base::disk_call::Call;
use statuslist::base::simulated::{self, Verdict};

use crate::guard::{self, Instances};
use crate::history::History;

/// One file, whatever its names are.
#[derive(Default)]
struct Inode {
    durable: (Vec<u8>, Option<u64>),
    now: (Vec<u8>, Option<u64>),
    /// What was written since the latest fsync.
    pending: Vec<(u64, Vec<u8>)>,
}

type Node = Rc<RefCell<Inode>>;

/// What a name led to: first what is durable, last what it leads to now.
type Name = Vec<Option<Node>>;

/// Which calls a disk may refuse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// All of them: the disk is bad.
    #[default]
    Bad,
    /// Those that need space.
    Full,
    /// Renames, after everything before them went well.
    Renames,
}

/// What goes wrong with calls that come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Errors {
    /// Of a hundred calls.
    pub(crate) percent: u32,
    pub(crate) trouble: Trouble,
}

/// What happens before a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doom {
    /// The instance that makes it is dead.
    Kill,
    /// It makes the call, and is paused after it.
    Pause,
    /// The whole machine has no power.
    Power,
}

pub(crate) struct SimDisk {
    /// In the order of their making, so that chance falls the same way whatever temporary names are.
    names: RefCell<Vec<(PathBuf, Name)>>,
    errors: Cell<Errors>,
    chance: RefCell<StdRng>,
    /// The machine has no power: nothing is done any more.
    off: Cell<bool>,
    /// What happens after so many calls.
    fatal: Cell<Option<(u32, Doom)>>,
    /// The instance that was paused so.
    paused: Cell<Option<usize>>,
    instances: Instances,
    history: History,
}

impl SimDisk {
    pub(crate) fn new(seed: u64, instances: Instances, history: History) -> Rc<Self> {
        Rc::new(Self {
            names: RefCell::default(),
            errors: Cell::default(),
            chance: RefCell::new(StdRng::seed_from_u64(seed)),
            off: Cell::new(false),
            fatal: Cell::new(None),
            paused: Cell::new(None),
            instances,
            history,
        })
    }

    pub(crate) fn set_errors(&self, errors: Errors) {
        self.errors.set(errors);
    }

    /// What happens before the call that comes after `calls` more.
    pub(crate) fn doom_after(&self, calls: u32, doom: Doom) {
        self.fatal.set(Some((calls, doom)));
    }

    /// Takes a pause back that has not come yet.
    pub(crate) fn spare(&self) {
        if matches!(self.fatal.get(), Some((_, Doom::Pause))) {
            self.fatal.set(None);
        }
    }

    /// The instance that was paused by that, once.
    pub(crate) fn take_paused(&self) -> Option<usize> {
        self.paused.take()
    }

    pub(crate) fn is_off(&self) -> bool {
        self.off.get()
    }

    pub(crate) fn switch_off(&self) {
        self.off.set(true);
        self.fatal.set(None);
    }

    /// Power is back: the files are what survived.
    pub(crate) fn switch_on(&self) {
        let mut names = self.names.borrow_mut();
        let mut chance = self.chance.borrow_mut();
        // A file of several names survives once.
        let mut survived: BTreeMap<*const RefCell<Inode>, Node> = BTreeMap::new();
        for (path, name) in names.iter_mut() {
            let which = if name.len() > 1 { chance.random_range(0..name.len()) } else { 0 };
            let kept = name[which].clone().map(|node| {
                Rc::clone(
                    survived
                        .entry(Rc::as_ptr(&node))
                        .or_insert_with(|| Rc::new(RefCell::new(survive(&node.borrow(), &mut chance)))),
                )
            });
            let _ = fs::remove_file(&*path);
            if let Some(node) = &kept {
                put(path, &node.borrow());
            }
            *name = vec![kept];
        }
        names.retain(|(_, name)| name[0].is_some());
        self.off.set(false);
    }

    fn node(&self, path: &Path) -> Option<Node> {
        let names = self.names.borrow();
        names.iter().find(|(known, _)| known.as_os_str() == path.as_os_str())?.1.last()?.clone()
    }

    fn lead(&self, path: &Path, node: Option<Node>) {
        let mut names = self.names.borrow_mut();
        match names.iter_mut().find(|(known, _)| known.as_os_str() == path.as_os_str()) {
            Some((_, name)) => name.push(node),
            None => names.push((path.to_owned(), vec![None, node])),
        }
    }

    fn roll(&self, call: &Call<'_>) -> Verdict {
        let Errors { percent, trouble } = self.errors.get();
        let concerned = match trouble {
            Trouble::Bad => true,
            Trouble::Full => {
                matches!(call, Call::Create(_) | Call::Write { .. } | Call::MakeFolder(_) | Call::Link { .. })
            }
            Trouble::Renames => matches!(call, Call::Rename { .. }),
        };
        let mut chance = self.chance.borrow_mut();
        if percent == 0 || !concerned || chance.random_range(0..100) >= percent {
            return Verdict::Go;
        }
        if trouble == Trouble::Full {
            return Verdict::Fail(ErrorKind::StorageFull);
        }
        // What is open in place by then cannot fail to have been made.
        match call {
            Call::Remove(_) | Call::Create(_) | Call::MakeFolder(_) => Verdict::Fail(ErrorKind::Other),
            _ if chance.random() => Verdict::FailAfter(ErrorKind::Other),
            _ => Verdict::Fail(ErrorKind::Other),
        }
    }
}

impl simulated::Disk for SimDisk {
    fn before(&self, call: &Call<'_>) -> Verdict {
        let dead = guard::current().is_some_and(|who| self.instances.is_dead(who));
        if self.off.get() || dead {
            return Verdict::Fail(ErrorKind::Other);
        }
        if let Some((left, doom)) = self.fatal.get() {
            if left > 0 {
                self.fatal.set(Some((left - 1, doom)));
            } else {
                self.fatal.set(None);
                match guard::current().filter(|_| doom != Doom::Power) {
                    Some(who) if doom == Doom::Pause => {
                        self.history.note(format!("instance {who} is paused after {}", kind_of(call)));
                        self.instances.pause(who);
                        self.paused.set(Some(who));
                        return Verdict::Go;
                    }
                    Some(who) => {
                        self.history.note(format!("instance {who} is killed before {}", kind_of(call)));
                        self.instances.kill(who);
                    }
                    None => {
                        self.history.note(format!("the power goes before {}", kind_of(call)));
                        self.off.set(true);
                        self.instances.kill_all();
                    }
                }
                return Verdict::Fail(ErrorKind::Other);
            }
        }
        let verdict = self.roll(call);
        if verdict != Verdict::Go {
            self.history.note(format!("disk: {verdict:?} of {}", kind_of(call)));
        }
        verdict
    }

    fn made(&self, call: &Call<'_>) {
        match *call {
            Call::Create(path) => {
                if self.node(path).is_none() {
                    self.lead(path, Some(Node::default()));
                }
            }
            Call::Write { path, bytes, offset } => {
                if let Some(node) = self.node(path) {
                    let mut node = node.borrow_mut();
                    write(&mut node.now.0, bytes, offset);
                    node.pending.push((offset, bytes.to_vec()));
                }
            }
            Call::SetModified(path, modified) => {
                if let Some(node) = self.node(path) {
                    node.borrow_mut().now.1 = Some(modified.millis());
                }
            }
            Call::Fsync(path) => {
                if let Some(node) = self.node(path) {
                    let mut node = node.borrow_mut();
                    node.durable = node.now.clone();
                    node.pending.clear();
                }
            }
            Call::Rename { from, to } => {
                let node = self.node(from);
                self.lead(from, None);
                self.lead(to, node);
            }
            Call::Link { from, to } => {
                let node = self.node(from);
                self.lead(to, node);
            }
            Call::Remove(path) => self.lead(path, None),
            Call::SyncFolder(folder) => {
                let mut names = self.names.borrow_mut();
                for (path, name) in names.iter_mut() {
                    if path.parent() == Some(folder) {
                        name.drain(..name.len() - 1);
                    }
                }
                names.retain(|(_, name)| name.len() > 1 || name[0].is_some());
            }
            Call::Truncate(path, length) => {
                if let Some(node) = self.node(path) {
                    node.borrow_mut().now.0.truncate(usize::try_from(length).unwrap_or(usize::MAX));
                }
            }
            // Folders are made at the start, when nothing goes wrong yet.
            Call::MakeFolder(_) | Call::RemoveFolder(_) => {}
        }
    }
}

fn kind_of(call: &Call<'_>) -> String {
    let shown = format!("{call:?}");
    let kind: String = shown.chars().take_while(|c| c.is_alphanumeric()).collect();
    let path = simulated::path_of(call);
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = if name.starts_with(".tmp-") { "a temporary file".to_owned() } else { name };
    format!("{kind} of {name}")
}

fn write(into: &mut Vec<u8>, bytes: &[u8], offset: u64) {
    let begin = usize::try_from(offset).unwrap_or(usize::MAX);
    if into.len() < begin + bytes.len() {
        into.resize(begin + bytes.len(), 0);
    }
    into[begin..begin + bytes.len()].copy_from_slice(bytes);
}

/// What of a file is there after the power was cut.
fn survive(inode: &Inode, chance: &mut StdRng) -> Inode {
    let (mut bytes, mut modified) = inode.durable.clone();
    for (offset, written) in &inode.pending {
        if chance.random() {
            // A sector of in-place records is whole; a longer write may be cut.
            let length =
                if written.len() > 512 { chance.random_range(0..=written.len()) } else { written.len() };
            write(&mut bytes, &written[..length], *offset);
        }
    }
    if chance.random() {
        modified = inode.now.1;
    }
    Inode { durable: (bytes.clone(), modified), now: (bytes, modified), pending: Vec::new() }
}

fn put(path: &Path, inode: &Inode) {
    use std::io::Write;
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path).unwrap();
    file.write_all(&inode.now.0).unwrap();
    if let Some(modified) = inode.now.1 {
        let times = FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_millis(modified));
        File::set_times(&file, times).unwrap();
    }
}
