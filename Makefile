# bulkhead: build, install, test. `make help` lists the targets.

# Where `make install` puts things. Engines read hooks below /usr/share, hence this default.
PREFIX  ?= /usr
DESTDIR ?=
SYSCONFDIR ?= $(if $(filter /usr,$(PREFIX)),/etc,$(PREFIX)/etc)

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GO       = $(shell sh .ci/go-path.sh)

BIN     ?= $(CURDIR)/bin
LDFLAGS  = -s -w -X github.com/bulkhead-containers/bulkhead/pkg/hook.Version=$(VERSION)
GOBUILD  = CGO_ENABLED=0 $(GO) build -buildvcs=false -trimpath -ldflags "$(LDFLAGS)"

# What is in the tree is built: the programs that are installed, and those that only tests use.
PROGRAMS  = $(patsubst %/main.go,%,$(wildcard hooks/*/main.go cni/*/main.go cmd/*/main.go))
TESTTOOLS = $(patsubst %/main.go,%,$(wildcard tests/*/main.go tests/tools/*/main.go tests/bench/*/main.go))

MD2MAN_MODULE = github.com/cpuguy83/go-md2man/v2@v2.0.7
MD2MAN        = $(CURDIR)/build/go-md2man-v2.0.7
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2

.DEFAULT_GOAL := build
.PHONY: help deps build test-tools man deb rpm install generate check-generated test test-unit test-bats test-runc-suite lint demo bench-hooks bench-net bench-net-guest bench-accounting soak clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z -]+:.*## /{printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo; echo "  PREFIX=$(PREFIX) DESTDIR=$(DESTDIR): where install puts things; FILES=...: which bats files; BULKHEAD_REQUIRE=...: what may not be skipped"

deps: ## install from Debian what building and testing need, and is missing
	@sh .ci/deps.sh

build: ## build every program, static, into bin/
	@mkdir -p $(BIN)
	@$(GOBUILD) -o $(BIN)/ $(addprefix ./,$(PROGRAMS))

test-tools: ## build the programs that tests use into bin/test/
	@mkdir -p $(BIN)/test
	@$(GOBUILD) -o $(BIN)/test/ $(addprefix ./,$(TESTTOOLS))

man: build ## make the manual pages and completions into bin/
	@test -x $(MD2MAN) || { mkdir -p build && GOBIN=$(CURDIR)/build $(GO) install $(MD2MAN_MODULE) && mv build/go-md2man $(MD2MAN); }
	@BIN='$(BIN)' MD2MAN='$(MD2MAN)' VERSION='$(VERSION)' sh install/man.sh

deb: build man ## make a Debian package into build/
	@BIN='$(BIN)' VERSION='$(VERSION)' OUT='$(CURDIR)/build' sh install/deb.sh

rpm: build man ## make an RPM package into build/ (rpmbuild)
	@BIN='$(BIN)' VERSION='$(VERSION)' OUT='$(CURDIR)/build' sh install/rpm.sh

install: build man ## install the programs, hooks, policy, units, pages (PREFIX, DESTDIR)
	@BIN='$(BIN)' PREFIX='$(PREFIX)' SYSCONFDIR='$(SYSCONFDIR)' DESTDIR='$(DESTDIR)' sh install/install.sh

generate: ## make the eBPF objects from their C sources
	@sh internal/bpf/generate.sh

check-generated: ## see that the committed eBPF objects are those that generate makes
	@sh internal/bpf/generate.sh --check

test: deps build test-tools test-unit test-bats ## all tests: unit, kernel, end to end (root)

test-unit: ## unit and kernel tests
	@sh .ci/go-test.sh

test-bats: build test-tools man ## end-to-end tests (root); FILES="tests/bats/x.bats" for some
	@tests/bats/run $(FILES)

test-runc-suite: build test-tools ## runc's own integration suite, over runc and through bulkhead-runtime, test by test (root, network)
	@BATS_FILE_TIMEOUT=$${BATS_FILE_TIMEOUT:-1800} tests/bats/run tests/runc/suite.bats; status=$$?; cat build/runc-suite-table.md; exit $$status

lint: ## gofmt, go vet, staticcheck, shellcheck
	@GO='$(GO)' STATICCHECK='$(STATICCHECK)' sh .ci/lint.sh

demo: deps build test-tools ## two tenants on this machine, each promise shown; leaves nothing behind (root)
	@tests/demo/demo.sh

bench-hooks: build test-tools ## what each hook costs, the whole set in a start, and the wrapper (root; figures, not tests)
	@tests/bench/hooks.sh
	@tests/bench/set.sh
	@tests/bench/runtime.sh

bench-net: build test-tools ## netlimit beside its peers (root)
	@PATH="$$(dirname $(GO)):$$PATH" tests/bench/net.sh

bench-net-guest: build test-tools ## the same in the guest that has fq_codel: ratios, rates, delays
	@tests/bench/net-guest.sh

bench-accounting: build test-tools ## the books and the counting (root)
	@tests/bench/accounting.sh

soak: build test-tools ## start and stop containers for a long time, and kill at random (root; SECONDS_TO_RUN, KILLS)
	@tests/bench/soak.sh
	@BULKHEAD_KILLS=$${KILLS:-1000} BATS_FILE_TIMEOUT=7200 tests/bats/run tests/bats/accounting-kill.bats
	@BULKHEAD_KILLS=$${KILLS:-1000} $(GO) test -count=1 -run TestKilledAnywhere ./pkg/usage

clean: ## remove what was built
	@rm -rf bin build

-include tests/vm/vm.mk
