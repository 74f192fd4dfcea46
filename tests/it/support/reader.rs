//! A reader of the published files, as nginx is: each must verify, none may be older than the one before it, and a final status
//! stays.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::fleet::PUBLIC_URL;
use super::process::pause;
use super::relying_party::{List, jwks};

/// Reads the files below `<folder>/public` continuously on a thread of its own, until it is dropped.
pub(crate) struct Reader {
    stop: Arc<AtomicBool>,
    reading: Option<JoinHandle<usize>>,
}

impl Reader {
    pub(crate) fn start(folder: &Path) -> Self {
        let (folder, stop) = (folder.to_owned(), Arc::new(AtomicBool::new(false)));
        let reading = tokio::task::spawn_blocking({
            let stop = Arc::clone(&stop);
            move || read_site(&folder, &stop)
        });
        Self { stop, reading: Some(reading) }
    }

    /// Ends it. Returns the number of different tokens that it read; panics with what was wrong with one.
    pub(crate) async fn end(mut self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        self.reading.take().unwrap().await.unwrap()
    }
}

/// So that a failed test ends.
impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn read_site(folder: &Path, stop: &AtomicBool) -> usize {
    let mut latest: HashMap<PathBuf, (Vec<u8>, List)> = HashMap::new();
    let mut tokens = 0;
    while !stop.load(Ordering::SeqCst) {
        // A test may delete files, or the folder.
        let files = std::fs::read_dir(folder.join("public/lists")).into_iter().flatten();
        for path in files.filter_map(Result::ok).map(|file| file.path()) {
            let name = path.file_name().unwrap().to_str().unwrap();
            let Some((id, extension @ ("jwt" | "jwt.gz"))) = name.split_once('.') else { continue };
            let Ok(bytes) = std::fs::read(&path) else { continue };
            if latest.get(&path).is_some_and(|(before, _)| *before == bytes) {
                continue;
            }
            let token = if extension == "jwt" { bytes.clone() } else { inflated(&bytes) };
            let token = String::from_utf8(token).unwrap();
            let list = List::verify(&token, &format!("{PUBLIC_URL}/{id}"), &jwks(folder))
                .unwrap_or_else(|error| panic!("{name} does not verify: {error}"));
            if let Some((_, before)) = latest.get(&path) {
                assert!(list.iat() > before.iat(), "iat of {name} from {} to {}", before.iat(), list.iat());
                assert!(!is_final(&list) || keeps(before, &list), "{name} lost a final status");
            }
            latest.insert(path, (bytes, list));
            tokens += 1;
        }
        pause(Duration::from_millis(10));
    }
    tokens
}

fn inflated(gzip: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(gzip), &mut bytes).unwrap();
    bytes
}

fn is_final(list: &List) -> bool {
    list.claims["status_list"]["aggregation_uri"] == format!("{PUBLIC_URL}/aggregation/final")
}

/// Whether every entry that was 1, the final status of lists with one bit, still is.
fn keeps(before: &List, now: &List) -> bool {
    before.array().iter().zip(now.array()).all(|(before, now)| before & !now == 0)
}
