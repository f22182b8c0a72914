@test "the kernel panics" { echo c >/proc/sysrq-trigger; }
