//! ETags that are made here, of content that is copied and of an object's parts.

use md5::{Digest as _, Md5};

/// The ETag of an object of several parts, from theirs.
pub(crate) fn etag_of_parts<'a>(etags: impl ExactSizeIterator<Item = &'a str>) -> String {
    let count = etags.len();
    let mut md5 = Md5::new();
    etags.for_each(|etag| match hex::decode(etag) {
        Ok(bytes) => md5.update(bytes),
        Err(_) => md5.update(etag),
    });
    format!("{}-{count}", hex::encode(md5.finalize()))
}

/// MD5 in the digits of an ETag.
pub(crate) fn md5_etag(md5: Md5) -> String {
    hex::encode(md5.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_of_parts_is_the_md5_of_their_md5s() {
        let hello = "5d41402abc4b2a76b9719d911017c592";
        let expected = hex::encode(Md5::digest(hex::decode(hello).unwrap()));
        assert_eq!(etag_of_parts([hello].into_iter()), format!("{expected}-1"));
    }
}
