.PHONY: run web test soak bench fmt

# The server, a stand-in for Intercom and a demo page, in a debug build: the first start compiles in the least time.
run: web
	cargo run -p awchat -- dev

# The web packages, where they have changed since they were last built: the server carries the widget.
WIDGET := web/packages/widget/dist/index.html
web: $(WIDGET)
$(WIDGET): node_modules/.package-lock.json $(shell find web/packages -type f -not -path '*/dist/*')
	npm run --silent build
	@touch $@
node_modules/.package-lock.json: package-lock.json
	npm ci --no-audit --no-fund --ignore-scripts
	@touch $@

# Installs what the checks need, then runs them all. What CI runs.
test:
	@scripts/setup-tests
	@scripts/test

# The long tests: the same promises as in `make test`, for longer.
soak:
	@scripts/soak

# How fast it is: against a bare handler and the Express peer, on this machine alone. Writes README's table and a chart;
# `make bench CASES="idle start"` only prints these.
bench:
	cargo build --release --locked -p awchat -p bench --no-default-features
	target/release/bench $(CASES)

fmt:
	cargo fmt --all
	npm run --silent format
