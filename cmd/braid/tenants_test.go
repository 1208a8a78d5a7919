package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestTenantsPage types the path of docs/tenants.md as a new user would.
func TestTenantsPage(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("kcat"); err != nil {
		t.Fatalf("%v: scripts/install-test-deps.sh installs it", err)
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "tenants.md"))
	if err != nil {
		t.Fatal(err)
	}
	script := "set -eu\n"
	for rest := string(page); ; {
		_, after, ok := strings.Cut(rest, "```sh\n")
		if !ok {
			break
		}
		block, after, _ := strings.Cut(after, "```\n")
		script, rest = script+block, after
	}
	up := startBraid(t, "up", "--data-dir", t.TempDir(), "--listener", "teams=127.0.0.1:0,security=SASL_PLAINTEXT",
		"--http", "127.0.0.1:0", "--catalog-listen", "127.0.0.1:0")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	bin := t.TempDir()
	if err := os.Symlink(buildBraid(t), filepath.Join(bin, "braid")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", script)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "BRAID_ADMIN=http://"+up.ready.HTTP, "PATH="+bin+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"tenant acme created", "user alice added to tenant acme (SCRAM-SHA-256)", "\nfrom acme\nfrom globex\n",
		"tenant globex is deleted; its data is kept for 24h", "tenant globex is back", "default        retention.ms=86400000", "1 topic with 1 partition"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the output does not hold %q:\n%s", want, out)
		}
	}
	if b, err := os.ReadFile(filepath.Join(cmd.Dir, "acme.properties")); err != nil || !strings.Contains(string(b), "sasl.jaas.config=") {
		t.Errorf("client.properties: %s, %v", b, err)
	}
}
