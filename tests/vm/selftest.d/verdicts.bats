@test "passes" { true; }
@test "fails" { false; }
@test "is not for this guest" { skip "need CRIO: no program \"crio\" here"; }
@test "skips what is promised" { skip "need Podman: no program \"podman\" here"; }
@test "skips for no reason" { skip; }
