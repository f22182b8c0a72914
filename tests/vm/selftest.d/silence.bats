@test "nothing is said" { sleep 1000; }
