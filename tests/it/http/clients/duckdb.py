import glob, os, sys
import duckdb

mnt, host = os.environ["MNT"], os.environ["AWS_ENDPOINT_URL"].split("://")
os.mkdir(f"{mnt}/lake")
con = duckdb.connect(config={"autoinstall_known_extensions": False})
extension, = (found for path in sys.path for found in glob.glob(f"{path}/duckdb_extension_httpfs/**/*.duckdb_extension", recursive=True))
con.execute(f"LOAD '{extension}'")
con.execute(f"""CREATE SECRET (TYPE s3, KEY_ID '{os.environ["AWS_ACCESS_KEY_ID"]}', SECRET '{os.environ["AWS_SECRET_ACCESS_KEY"]}',
    REGION 'us-east-1', ENDPOINT '{host[1]}', URL_STYLE 'path', USE_SSL {host[0] == "https"})""")
con.execute("CREATE TABLE numbers AS SELECT n, n * n AS square, 'row ' || n AS text FROM range(1000000) each(n)")

# One object of many parts, then a directory of them.
con.execute("COPY numbers TO 's3://lake/numbers.parquet'")
con.execute("COPY (SELECT *, n % 4 AS part FROM numbers) TO 's3://lake/by' (FORMAT parquet, PARTITION_BY (part))")
con.execute("COPY (SELECT * FROM numbers LIMIT 10) TO 's3://lake/few.csv'")
assert os.path.getsize(f"{mnt}/lake/numbers.parquet") > 5 << 20
for place in [f"{mnt}/lake", "s3://lake"]:
    one = con.execute(f"SELECT count(*), sum(n), max(text) FROM '{place}/numbers.parquet'").fetchone()
    assert one == (1000000, 499999500000, "row 999999"), one
    many = con.execute(f"SELECT part, count(*), sum(n) FROM read_parquet('{place}/by/*/*.parquet') GROUP BY part ORDER BY part").fetchall()
    assert [each[1] for each in many] == [250000] * 4 and sum(each[2] for each in many) == 499999500000, many
    assert con.execute(f"SELECT count(*), sum(square) FROM '{place}/few.csv'").fetchone() == (10, 285)
# Only the pages of one row group.
assert con.execute("SELECT square FROM 's3://lake/numbers.parquet' WHERE n = 777777").fetchall() == [(777777 ** 2,)]
listed = con.execute("SELECT file FROM glob('s3://lake/by/part=*/*.parquet')").fetchall()
assert len(listed) == len(glob.glob(f"{mnt}/lake/by/part=*/*.parquet")) >= 4, listed
