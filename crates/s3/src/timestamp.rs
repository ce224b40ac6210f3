use serde::{Deserialize, Serialize};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{Date, Month, OffsetDateTime, Time};

/// Whole seconds since 1970 in UTC, which is as exact as S3 tells times and compares them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timestamp(i64);

const HTTP: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
const ISO: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].000Z");

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

impl Timestamp {
    /// From seconds since 1970; what is before the year 0 or after 9999 becomes the nearest that can be written.
    pub fn from_unix(seconds: i64) -> Self {
        let (first, last) = (-62_167_219_200, 253_402_300_799);
        Self(seconds.clamp(first, last))
    }

    /// Seconds since 1970.
    pub fn unix(self) -> i64 {
        self.0
    }

    /// As in headers: `Wed, 12 Oct 2009 17:50:00 GMT`.
    pub fn http_date(self) -> String {
        self.format(HTTP)
    }

    /// Of the three forms that HTTP has for a date (RFC 9110, 5.6.7). The week's day is not compared with the date; a
    /// year of two digits is not more than 50 years ahead of 2026.
    pub fn parse_http_date(text: &str) -> Option<Self> {
        let (_, behind) = text.split_once(' ')?;
        let is_asctime = text.as_bytes().get(3) == Some(&b' ');
        // A day of one digit has a space before it, in this form alone.
        let mut fields = behind.split([' ', '-']).filter(|field| !is_asctime || !field.is_empty());
        let mut next = || fields.next();
        let (day, month, year, clock) = if is_asctime {
            // `Sun Nov  6 08:49:37 1994`
            let (month, day, clock, year) = (next()?, next()?, next()?, next()?);
            (day, month, year, clock)
        } else {
            // `Sun, 06 Nov 1994 08:49:37 GMT`, or `Sunday, 06-Nov-94 08:49:37 GMT`
            let all = (next()?, next()?, next()?, next()?);
            if next()? != "GMT" {
                return None;
            }
            all
        };
        if next().is_some() {
            return None;
        }
        let number = |text: &str, most: usize| {
            let digits = text.len() <= most && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse::<u16>().ok()).flatten()
        };
        let year = match (number(year, 4)?, year.len()) {
            (year, 4) => year,
            (year, 2) => {
                if year < 77 {
                    2000 + year
                } else {
                    1900 + year
                }
            }
            _ => return None,
        };
        let month = MONTHS.iter().position(|name| *name == month)?;
        let month = Month::try_from(u8::try_from(month + 1).ok()?).ok()?;
        let date = Date::from_calendar_date(year.into(), month, u8::try_from(number(day, 2)?).ok()?).ok()?;
        let mut clock =
            clock.split(':').map(|part| if part.len() == 2 { u8::try_from(number(part, 2)?).ok() } else { None });
        let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
        let time = Time::from_hms(hour, minute, second.min(59)).ok()?;
        (clock.next().is_none() && second <= 60).then(|| Self(date.with_time(time).assume_utc().unix_timestamp()))
    }

    /// As in XML: `2009-10-12T17:50:30.000Z`.
    pub fn iso8601(self) -> String {
        self.format(ISO)
    }

    fn format(self, format: &[BorrowedFormatItem<'_>]) -> String {
        let time = OffsetDateTime::from_unix_timestamp(self.0).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        time.format(format).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_headers_and_xml_have_them() {
        let time = Timestamp::from_unix(784_111_777);
        assert_eq!(time.http_date(), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(time.iso8601(), "1994-11-06T08:49:37.000Z");
    }

    #[test]
    fn the_three_forms_of_a_date_are_one() {
        for text in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(Timestamp::parse_http_date(text), Some(Timestamp(784_111_777)), "{text}");
        }
        let leap = Timestamp::parse_http_date("Sat, 31 Dec 2016 23:59:60 GMT");
        assert_eq!(leap.unwrap().iso8601(), "2016-12-31T23:59:59.000Z");
        for wrong in [
            "",
            "Sun,",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Nov 1994 08:49:37 GMT x",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 19940 08:49:37 GMT",
            "Sun, -6 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06 Nov 1994 08:49:37:00 GMT",
            "1994-11-06T08:49:37Z",
            "784111777",
        ] {
            assert_eq!(Timestamp::parse_http_date(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_written_is_the_nearest_that_can() {
        assert_eq!(Timestamp::from_unix(i64::MAX).iso8601(), "9999-12-31T23:59:59.000Z");
        assert_eq!(Timestamp::from_unix(i64::MIN).iso8601(), "0000-01-01T00:00:00.000Z");
    }
}
