//! Reads queries: typed, with errors that name the parameter. A misspelt parameter is refused: ignoring it would do something
//! else than was asked.

use std::str::FromStr;

use actix_web::{HttpRequest, web};

use super::Api;
use super::problem::Problem;

/// The parameters of a query.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the query of a request to a path that takes the parameters `known`.
    pub(super) fn of(request: &HttpRequest, api: &Api, known: &[&str]) -> Result<Self, Problem> {
        Self::parse(request.query_string(), known, api.lenient)
    }

    fn parse(query: &str, known: &[&str], lenient: bool) -> Result<Self, Problem> {
        if query.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let pairs = web::Query::<Vec<(String, String)>>::from_query(query);
        let pairs = pairs
            .map_err(|error| Problem::bad_request(format!("The query cannot be read: {error}")))?
            .into_inner();
        match pairs.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, _)) if !lenient => Err(Problem::unknown_parameter(name, known)),
            _ => Ok(Self(pairs)),
        }
    }

    /// The value of a parameter, if it is there. `expected` says what it must be.
    pub(super) fn get<T: FromStr>(&self, name: &str, expected: &str) -> Result<Option<T>, Problem> {
        let mut values = self.0.iter().filter(|(given, _)| given == name).map(|(_, value)| value);
        let (value, another) = (values.next(), values.next());
        if another.is_some() {
            return Err(Problem::bad_request(format!("The query has the parameter `{name}` twice")));
        }
        let parse =
            |value: &String| value.parse().map_err(|_| Problem::wrong_parameter(name, value, expected));
        value.map(parse).transpose()
    }
}

/// Refuses a query where a path takes none.
pub(super) fn none(request: &HttpRequest, api: &Api) -> Result<(), Problem> {
    Query::of(request, api, &[]).map(|_| ())
}

/// Parses this query.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn read_any(query: &str) -> Option<(Option<i64>, Option<bool>)> {
    let query = Query::parse(query, &["amount", "claims"], false).ok()?;
    Some((query.get("amount", "a number").ok()?, query.get("claims", "true or false").ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_typed_and_known() {
        assert_eq!(read_any("amount=5&claims=true"), Some((Some(5), Some(true))));
        assert_eq!(read_any(""), Some((None, None)));
        for wrong in ["amount=x", "amount=", "claims=1", "amount=1&amount=2", "ammount=5", "force=true"] {
            assert_eq!(read_any(wrong), None, "{wrong}");
        }
        let refusal = |known: &[&str]| Query::parse("ammount=5", known, false).err().unwrap().to_string();
        let misspelt = refusal(&["amount", "claims"]);
        assert!(
            misspelt.contains(
                "`ammount` is unknown; did you mean `amount`? This path takes only `amount`, `claims`"
            ),
            "{misspelt}"
        );
        assert!(
            refusal(&[]).contains("`ammount` is unknown. This path takes no parameters"),
            "{}",
            refusal(&[])
        );
        assert!(Query::parse("ammount=5", &[], true).is_ok(), "as the original service");
    }
}
