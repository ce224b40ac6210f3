//! The keys are in another process, which takes nobody's word.

use super::published::{get_object, presigned};
use super::support::*;
use kmsfs_sigv4::{
    Endpoint, Error, Finding, Prepared, Question, Request, SecretAccessKey, Service, SigningKey, prepare,
};
use time::Duration;

const SIGNED_CHUNKS: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";

fn prepared(sent: &Sent) -> Prepared {
    let headers: Vec<(&[u8], &[u8])> = sent.headers.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    let request = Request { method: &sent.method, path: &sent.path, query: &sent.query, headers: &headers };
    prepare(&request, &Endpoint { region: "us-east-1", service: Service::S3, now: date() }).unwrap()
}

fn key(question: &Question) -> SigningKey {
    let Question { credential, .. } = question;
    let secret = SecretAccessKey::new(SECRET);
    SigningKey::derive(&secret, &credential.date, &credential.region, &credential.service)
}

#[test]
fn the_key_is_given_away_where_chunks_are_signed_and_nowhere_else() {
    for sent in [get_object(), presigned()] {
        let prepared = prepared(&sent);
        let finding = prepared.question().examine(Some(key(prepared.question())));
        assert!(matches!(finding, Finding::Right(None)));
        assert_eq!(prepared.complete(finding).unwrap().path(), b"/test.txt");
    }
    let (sent, seed) = upload(SIGNED_CHUNKS, 5, None);
    let (body, _) = signed_chunks(&seed, &[b"hello"]);
    let prepared = prepared(&sent);
    let finding = prepared.question().examine(Some(key(prepared.question())));
    assert!(matches!(finding, Finding::Right(Some(_))));
    let (bytes, _, end) = receive(prepared.complete(finding).unwrap().into_body(), [&body[..], b"\r\n"]);
    assert_eq!((&bytes[..], end.unwrap().length), (&b"hello"[..], 5));
}

/// Whoever asks cannot have the key by saying that chunks are signed: the request that was signed has to say so.
#[test]
fn the_key_is_not_given_away_for_another_canonical_request() {
    let (chunks, _) = upload(SIGNED_CHUNKS, 5, None);
    let of_chunks = prepared(&chunks).question().clone();
    assert!(of_chunks.canonical_request.is_some());
    let of_get = prepared(&get_object()).question().clone();
    let forged = [of_chunks.canonical_request.clone(), Some(SIGNED_CHUNKS.into()), Some(Vec::new())];
    for canonical_request in forged {
        let asked = Question { canonical_request, ..of_get.clone() };
        assert!(matches!(asked.examine(Some(key(&asked))), Finding::Right(None)), "{asked:?}");
    }
    let unsaid = Question { canonical_request: None, ..of_chunks };
    assert!(matches!(unsaid.examine(Some(key(&unsaid))), Finding::Right(None)));
}

#[test]
fn what_was_found_decides() {
    let refused = |sent: &Sent, finding| prepared(sent).complete(finding).unwrap_err();
    assert!(matches!(refused(&get_object(), Finding::NoSuchKey), Error::InvalidAccessKeyId { .. }));
    assert!(matches!(refused(&get_object(), Finding::Wrong), Error::SignatureDoesNotMatch(_)));
    let (chunks, _) = upload(SIGNED_CHUNKS, 5, None);
    assert!(matches!(refused(&chunks, Finding::Right(None)), Error::SignatureDoesNotMatch(_)), "no chunk unverified");
    let question = prepared(&get_object()).question().clone();
    let changed = Question {
        string_to_sign: question.string_to_sign.replace("20130524T000000Z", "20130524T000001Z"),
        ..question
    };
    assert!(matches!(changed.examine(Some(key(&changed))), Finding::Wrong));
    assert!(matches!(changed.examine(None), Finding::NoSuchKey));
}

#[test]
fn a_string_that_is_no_requests_of_these_days_is_told_apart() {
    let question = prepared(&get_object()).question().clone();
    assert!(question.is_of_a_request(date()) && question.is_of_a_request(date() + Duration::days(7)));
    for now in [date() + Duration::days(8), date() - Duration::minutes(16)] {
        assert!(!question.is_of_a_request(now), "{now}");
    }
    let hash = sha256(b"");
    let chunk = format!("AWS4-HMAC-SHA256-PAYLOAD\n{DATE}\n{SCOPE}\n{hash}\n{hash}\n{hash}");
    let other_scope = question.string_to_sign.replace("us-east-1", "us-east-2");
    let other_day = question.string_to_sign.replace("20130524T", "20130525T");
    let short = question.string_to_sign[..question.string_to_sign.len() - 1].to_owned();
    let more = format!("{}\n", question.string_to_sign);
    for string_to_sign in [chunk, other_scope, other_day, short, more, String::new()] {
        let changed = Question { string_to_sign, ..question.clone() };
        assert!(!changed.is_of_a_request(date()), "{changed:?}");
    }
}
