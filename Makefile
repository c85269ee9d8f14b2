.PHONY: run test soak fmt

# The server, a stand-in for Intercom and a demo page, in a debug build: the first start compiles in the least time.
run:
	cargo run -p awchat -- dev

# Installs what the checks need, then runs them all. What CI runs.
test:
	@scripts/setup-tests
	@scripts/test

# The long tests: the same promises as in `make test`, for longer.
soak:
	@scripts/soak

fmt:
	cargo fmt --all
	npm run --silent format
