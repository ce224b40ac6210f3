//! S3's operations on real mounts: what clients of S3 put are files, what programs write are objects.

mod buckets;
mod client;
mod completing;
mod copies;
mod keys;
mod listing;
mod objects;
mod uploads;
mod users;
mod withdrawn;

use client::{Client, bucket_name, key};
