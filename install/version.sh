#!/bin/sh
# version.sh VERSION: a version as git describes it, as packages want one: begins with a digit, has no "-".
case ${1#v} in
[0-9]*.*) echo "${1#v}" ;;
*) echo "0.0.0+git.$1" ;;
esac | sed 's/-/+/g; s/[^A-Za-z0-9.+~]/./g'
