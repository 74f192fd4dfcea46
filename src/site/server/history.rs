//! `?time=`: the original token that was current at a given time, from the archive of a pool with history ("Historical Resolution").

use actix_web::http::header::{self, HeaderMap};
use actix_web::web::{self, Query};

use super::SiteServer;
use super::cache::Document;
use super::negotiate;
use super::problem::Problem;
use crate::base::clock::NumericDate;
use crate::site::layout::{self, File};
use crate::status_list::{Format, ListId};
use std::sync::Arc;

/// Returns the value of `time` in the query, in whatever encoding; `None` if it is absent.
pub(super) fn asked_time(query: &str) -> Option<Result<NumericDate, Problem>> {
    if query.is_empty() {
        return None;
    }
    let parameters = Query::<Vec<(String, String)>>::from_query(query).ok()?.into_inner();
    let times: Vec<_> = parameters.into_iter().filter(|(name, _)| name == "time").collect();
    match times.as_slice() {
        [] => None,
        [(_, time)] if !time.is_empty() && time.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(time.parse().map_err(|_| Problem::BadTime))
        }
        _ => Some(Err(Problem::BadTime)),
    }
}

impl SiteServer {
    /// Returns the token that was current and valid at `time`.
    pub(super) async fn token_of(
        &self,
        list: ListId,
        time: Result<NumericDate, Problem>,
        headers: &HeaderMap,
    ) -> Result<(Format, Arc<Document>), Problem> {
        // Until something of the list is archived, its pool has no history.
        let folder = self.cache.history(list);
        let archived = web::block(move || archived(&folder)).await.map_err(|_| Problem::Unavailable)?;
        let archived = archived.ok_or(Problem::NoHistory)?;
        let time = time?;
        if time > (self.now)() {
            return Err(Problem::NoSuchTime);
        }
        // The requested formats first, then any.
        let wanted = negotiate::formats(headers.get_all(header::ACCEPT));
        for format in wanted.into_iter().chain(Format::SIGNED) {
            let of_format = archived.iter().filter(|(iat, of)| *of == format && *iat <= time);
            let Some(iat) = of_format.map(|(iat, _)| *iat).max() else { continue };
            let Some(token) = self.cache.read(&File::Archived(list, format, iat)).await? else { continue };
            if token.lifetime.exp.is_none_or(|exp| time <= exp) {
                return Ok((format, token));
            }
        }
        Err(Problem::NoSuchTime)
    }
}

/// Returns `iat` and format of all archived tokens of a list; `None` if it has no archive.
fn archived(folder: &std::path::Path) -> Option<Vec<(NumericDate, Format)>> {
    let entries = std::fs::read_dir(folder).ok()?.filter_map(Result::ok);
    Some(entries.filter_map(|entry| layout::archived(&entry.path())).collect())
}
