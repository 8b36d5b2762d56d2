#!/bin/sh
# Ansible managed
# certbot runs this after it renewed a certificate: brings one of an app to nginx, tests, reloads.
set -eu
name=$(basename "$RENEWED_LINEAGE")
case $name in
    flask_apps-*) ;;
    *) exit 0 ;;
esac
file=/etc/nginx/certificates/${name#flask_apps-}.pem
umask 077
mkdir -p -m 700 /etc/nginx/certificates
cat "$RENEWED_LINEAGE/fullchain.pem" "$RENEWED_LINEAGE/privkey.pem" > "$file.new"
mv "$file.new" "$file"
nginx -t -q
systemctl reload nginx
