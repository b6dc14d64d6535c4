//! Who works on a stream: the name under which progress and parks are kept.
//!
//! Two functions on one stream do different work, so neither may take what the other has
//! finished for its own. The same holds for two aliases of a function with a mapping each. A
//! version is no consumer: a deployment has to find what the one before it left.

/// The consumer where no function has a name: on the desk and in tests.
pub const LOCAL: &str = "local";

/// The name of a consumer. A `setting` is the whole name. Without one it is the function's,
/// and `function:alias` where the function was invoked through an alias.
pub(crate) fn consumer(setting: Option<&str>, function: &str, invoked_arn: Option<&str>) -> String {
    if let Some(name) = setting {
        return name.to_owned();
    }
    let function = if function.is_empty() { LOCAL } else { function };
    match invoked_arn.and_then(alias) {
        Some(alias) => format!("{function}:{alias}"),
        None => function.to_owned(),
    }
}

/// The alias in the ARN of an invoked function; a version is none. An alias is never a number.
/// Source: `Name` of `CreateAlias` in the Lambda API reference, `(?!^[0-9]+$)([a-zA-Z0-9-_]+)`.
fn alias(invoked_arn: &str) -> Option<&str> {
    // arn:partition:lambda:region:account:function:name:qualifier
    let qualifier = invoked_arn.split(':').nth(7)?;
    let is_version = qualifier == "$LATEST" || qualifier.bytes().all(|byte| byte.is_ascii_digit());
    (!is_version).then_some(qualifier)
}

#[cfg(test)]
mod tests {
    use super::consumer;

    const ARN: &str = "arn:aws:lambda:eu-west-1:123456789012:function:orders";

    #[track_caller]
    fn check(setting: Option<&str>, function: &str, qualifier: Option<&str>, expected: &str) {
        let arn = qualifier.map(|it| format!("{ARN}{it}"));
        assert_eq!(consumer(setting, function, arn.as_deref()), expected);
    }

    #[test]
    fn an_alias_is_a_consumer_of_its_own_and_a_version_is_none() {
        check(None, "orders", None, "orders");
        check(None, "orders", Some(""), "orders");
        check(None, "orders", Some(":$LATEST"), "orders");
        check(None, "orders", Some(":17"), "orders");
        check(None, "orders", Some(":live"), "orders:live");
        check(None, "orders", Some(":7-a"), "orders:7-a");
        check(None, "", None, "local");
        check(Some("mine"), "orders", Some(":live"), "mine");
        assert_eq!(consumer(None, "orders", Some("function")), "orders");
    }
}
