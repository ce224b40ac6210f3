# The Debian package: what lintian says of it; installed, used, upgraded over a mount, removed and purged in a minimal Debian.

suite_package() {
    local tree=$base/package out=$base/packages said=$logs/package.out version deb step passed=0 failed=0
    [ "$on" = kmsfs ] || { row "package" 0 0 0 0 "only for kmsfs"; return; }
    scripts/package --output "$out" ${PACKAGE_WORDS:-} >"$said" 2>&1 || { row "package" 1 0 1 0 "scripts/package: see $said"; return; }
    deb=$(ls "$out"/kmsfs_*.deb)
    version=$(dpkg-deb --field "$deb" Version)
    # The same bytes once more, and in the program no name of the folder that it was built in.
    if scripts/package --no-build --output "$base/again" deb >>"$said" 2>&1 && cmp "$deb" "$base/again/${deb##*/}" >>"$said" 2>&1 &&
        ! grep -qaF "$here" target/package/release/kmsfs; then
        row "package: made twice" 1 1 0 0 ""
    else
        row "package: made twice" 1 0 1 0 "see $said"
    fi
    command -v lintian >/dev/null || apt-get install -y -q --no-install-recommends lintian >"$logs/package-lintian.apt" 2>&1 || true
    if ! command -v lintian >/dev/null; then
        row "package: lintian" 0 0 0 0 "NOT RUN: there is no lintian"
    elif lintian --allow-root --fail-on error --tag-display-limit 0 "$out"/*.deb >"$logs/package-lintian.out" 2>&1; then
        row "package: lintian" 1 1 0 0 "$(grep -c '^W:' "$logs/package-lintian.out" || true) warnings"
    else
        row "package: lintian" 1 0 1 0 "$(grep '^E:' "$logs/package-lintian.out" | head -n 3 | paste -sd ';')"
    fi
    if ! bare_tree "$tree" >"$logs/package.made" 2>"$logs/debootstrap.out"; then
        row "package" 0 0 0 0 "NOT RUN: $(tail -n 1 "$logs/package.made")"
        return
    fi
    mkdir "$tree/packages"
    cp "$out"/*.deb "$tree/packages/"
    # The same as a later version.
    dpkg-deb --raw-extract "$deb" "$base/later"
    sed -i "s/^Version: .*/Version: $version+later/" "$base/later/DEBIAN/control"
    dpkg-deb --root-owner-group --build -Zgzip "$base/later" "$tree/packages/later.deb" >/dev/null
    cp scripts/conformance.d/package-steps "$tree/packages/steps"
    cp scripts/conformance.d/package-steps-booted "$tree/packages/steps-booted"
    # One life in one pair of namespaces: a mount goes on from step to step.
    bare_run "$tree" 'sh /packages/steps' >"$logs/package-steps.out" 2>&1 || true
    passed=$(grep -c '^ok' "$logs/package-steps.out" || true)
    failed=$(grep -c '^FAILED' "$logs/package-steps.out" || true)
    grep -q '^done$' "$logs/package-steps.out" || failed=$((failed + 1))
    row "package" $((passed + failed)) "$passed" "$failed" 0 \
        "$(grep '^FAILED' "$logs/package-steps.out" | head -n 3 | paste -sd ';' | tr '|' '/')$(stat -c ' %s bytes' "$deb")"
    if ! bare_boot "$tree" 'sh /packages/steps-booted' >"$logs/package-booted.out" 2>&1; then
        row "package, with systemd as process 1" 0 0 0 0 "NOT RUN: $(tail -n 1 "$logs/package-booted.out" | tr '|' '/')"
    else
        passed=$(grep -c '^ok' "$logs/package-booted.out" || true)
        failed=$(grep -c '^FAILED' "$logs/package-booted.out" || true)
        grep -q '^done$' "$logs/package-booted.out" || failed=$((failed + 1))
        row "package, with systemd as process 1" $((passed + failed)) "$passed" "$failed" 0 \
            "$(grep '^FAILED' "$logs/package-booted.out" | head -n 3 | paste -sd ';' | tr '|' '/')"
    fi
    rm -rf --one-file-system "$tree"
}
