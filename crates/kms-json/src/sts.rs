//! AWS STS, of which there is one call: who signs is told who he is. Requests are in the query protocol, answers XML.

use crate::reply::SIGNATURE;
use kmsfs_kms::Principal;
use kmsfs_kms::audit::RecordSource;
use kmsfs_sigv4 as sigv4;
use serde::{Deserialize, Serialize};

/// The content type of replies.
pub const CONTENT_TYPE: &str = "text/xml";

const VERSION: &str = "2011-06-15";
const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// One call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Whoever signed the request.
    GetCallerIdentity,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Of HTTP.
    pub status: u16,
    /// AWS's code, such as `InvalidAction`.
    pub code: &'static str,
    /// As AWS words it.
    pub message: String,
}

/// Whoever signed a request, as the audit trail names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallerIdentity {
    /// Twelve digits.
    pub account: String,
    /// Such as `arn:aws:iam::123456789012:user/alice`.
    pub arn: String,
    /// The Linux user's number; of the account's root the account, as AWS has it.
    pub user_id: String,
}

impl Request {
    /// From the parameters of the URL and, behind them, those of a body that is a form, both without escapes. Where one
    /// comes twice the first counts.
    ///
    /// # Errors
    ///
    /// `MissingAction`, or `InvalidAction` for every other action and version.
    pub fn of(parameters: &[(Vec<u8>, Vec<u8>)]) -> Result<Self, Refusal> {
        let find = |name: &str| {
            let found = parameters.iter().find(|(known, _)| known == name.as_bytes());
            found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        };
        let Some(action) = find("Action") else {
            return Err(Refusal::new(400, "MissingAction", "Missing Action"));
        };
        let version = find("Version").unwrap_or_default();
        if action == "GetCallerIdentity" && version == VERSION {
            return Ok(Self::GetCallerIdentity);
        }
        let text = format!("Could not find operation {action} for version {version}");
        Err(Refusal::new(400, "InvalidAction", text))
    }
}

/// The parameters of a body that is a form (`application/x-www-form-urlencoded`), without escapes; `None` where it has
/// an escape that is none.
pub fn form(body: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let parameters = body.split(|byte| *byte == b'&').filter(|parameter| !parameter.is_empty());
    let read = |parameter: &[u8]| {
        let end = parameter.iter().position(|byte| *byte == b'=').unwrap_or(parameter.len());
        Some((unescaped(&parameter[..end])?, unescaped(parameter.get(end + 1..).unwrap_or_default())?))
    };
    parameters.map(read).collect()
}

fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = match byte {
            b'%' => {
                let (high, low) = (digit(after.first()?)?, digit(after.get(1)?)?);
                plain.push(u8::try_from(high * 16 + low).ok()?);
                &after[2..]
            }
            b'+' => {
                plain.push(b' ');
                after
            }
            byte => {
                plain.push(*byte);
                after
            }
        };
    }
    Some(plain)
}

impl Refusal {
    fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// Of a request that is not signed as it has to be.
    pub fn unsigned(error: &sigv4::Error) -> Self {
        match error {
            sigv4::Error::Anonymous => {
                Self::new(403, "MissingAuthenticationToken", "Request is missing Authentication Token")
            }
            sigv4::Error::InvalidAccessKeyId { .. } | sigv4::Error::InvalidToken { .. } => {
                Self::new(403, "InvalidClientTokenId", "The security token included in the request is invalid.")
            }
            sigv4::Error::SignatureDoesNotMatch(_)
            | sigv4::Error::RequestTimeTooSkewed { .. }
            | sigv4::Error::Expired { .. }
            | sigv4::Error::NotYetValid => {
                let is_signature = matches!(error, sigv4::Error::SignatureDoesNotMatch(_));
                let message = if is_signature { SIGNATURE.to_owned() } else { error.to_string() };
                Self::new(403, "SignatureDoesNotMatch", message)
            }
            _ => Self::new(400, "IncompleteSignature", error.to_string()),
        }
    }

    /// The answer's body.
    pub fn to_xml(&self, request_id: &str) -> String {
        let (code, message) = (self.code, escaped(&self.message));
        let kind = if self.status < 500 { "Sender" } else { "Receiver" };
        format!(
            "<ErrorResponse xmlns=\"{NAMESPACE}\">\n  <Error>\n    <Type>{kind}</Type>\n    <Code>{code}</Code>\n    \
             <Message>{message}</Message>\n  </Error>\n  <RequestId>{}</RequestId>\n</ErrorResponse>\n",
            escaped(request_id)
        )
    }
}

impl CallerIdentity {
    /// As the audit trail names whoever asks.
    pub fn of(who: &Principal, source: &dyn RecordSource) -> Self {
        let (account, _) = source.place();
        let arn = source.identity(who).arn;
        let user_id = if arn.ends_with(":root") { account.clone() } else { who.uid().to_string() };
        Self { account, arn, user_id }
    }

    /// The answer's body.
    pub fn to_xml(&self, request_id: &str) -> String {
        let [arn, user_id, account, request_id] = [&self.arn, &self.user_id, &self.account, request_id].map(escaped);
        format!(
            "<GetCallerIdentityResponse xmlns=\"{NAMESPACE}\">\n  <GetCallerIdentityResult>\n    <Arn>{arn}</Arn>\n    \
             <UserId>{user_id}</UserId>\n    <Account>{account}</Account>\n  </GetCallerIdentityResult>\n  \
             <ResponseMetadata>\n    <RequestId>{request_id}</RequestId>\n  </ResponseMetadata>\n\
             </GetCallerIdentityResponse>\n"
        )
    }
}

/// Text as XML has it. What XML cannot have at all becomes a question mark.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\t' | '\n' => escaped.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('?'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Request, Refusal> {
        Request::of(&form(text.as_bytes()).unwrap())
    }

    #[test]
    fn one_action_of_one_version_is_known() {
        // What boto3 and Terraform send.
        assert_eq!(of("Action=GetCallerIdentity&Version=2011-06-15"), Ok(Request::GetCallerIdentity));
        assert_eq!(of("Version=2011-06-15&Action=GetCallerIdentity"), Ok(Request::GetCallerIdentity));
        let refused = |action: &str, version: &str| {
            let text = format!("Could not find operation {action} for version {version}");
            Err(Refusal::new(400, "InvalidAction", text))
        };
        assert_eq!(of("Action=AssumeRole&Version=2011-06-15&RoleArn=x"), refused("AssumeRole", "2011-06-15"));
        assert_eq!(of("Action=GetCallerIdentity"), refused("GetCallerIdentity", ""));
        assert_eq!(of("Action=Get%43aller%49dentity&Version=2011-06-15"), Ok(Request::GetCallerIdentity));
        assert_eq!(of("Version=2011-06-15"), Err(Refusal::new(400, "MissingAction", "Missing Action")));
        assert_eq!(of("Action=x&Action=GetCallerIdentity&Version=2011-06-15"), refused("x", "2011-06-15"));
        for bad in ["Action=%", "Action=%4", "Action=%zz", "%=x"] {
            assert_eq!(form(bad.as_bytes()), None, "{bad}");
        }
        let pairs = vec![(b"a b".to_vec(), b"1=2".to_vec()), (b"c".to_vec(), Vec::new())];
        assert_eq!(form(b"a+b=1=2&&c").unwrap(), pairs);
    }

    #[test]
    fn answers_and_refusals_are_the_xml_of_aws() {
        let arn = "arn:aws:iam::123456789012:user/a&b".into();
        let identity = CallerIdentity { account: "123456789012".into(), arn, user_id: "1000".into() };
        let expected = "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  \
             <GetCallerIdentityResult>\n    <Arn>arn:aws:iam::123456789012:user/a&amp;b</Arn>\n    \
             <UserId>1000</UserId>\n    <Account>123456789012</Account>\n  </GetCallerIdentityResult>\n  \
             <ResponseMetadata>\n    <RequestId>r</RequestId>\n  </ResponseMetadata>\n</GetCallerIdentityResponse>\n";
        assert_eq!(identity.to_xml("r"), expected);
        let refusal = Refusal::new(400, "InvalidAction", "Could not find operation <x>\u{1}");
        let expected = "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <Error>\n    \
             <Type>Sender</Type>\n    <Code>InvalidAction</Code>\n    \
             <Message>Could not find operation &lt;x&gt;?</Message>\n  </Error>\n  <RequestId>r</RequestId>\n\
             </ErrorResponse>\n";
        assert_eq!(refusal.to_xml("r"), expected);
    }

    #[test]
    fn whoever_is_not_known_is_told_so_as_aws_does() {
        let unknown = sigv4::Error::InvalidAccessKeyId { access_key_id: "AKID".into() };
        let text = "The security token included in the request is invalid.";
        assert_eq!(Refusal::unsigned(&unknown), Refusal::new(403, "InvalidClientTokenId", text));
        assert_eq!(Refusal::unsigned(&sigv4::Error::Anonymous).code, "MissingAuthenticationToken");
        assert_eq!(Refusal::unsigned(&sigv4::Error::InvalidUri).code, "IncompleteSignature");
    }
}
