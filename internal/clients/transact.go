package clients

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/braidstream/braid/internal/testkit"
)

// Transact has a family's producer make count transactions under a transactional
// id. The i-th writes the values ID/i/0 to ID/i/2 to partitions 0 and 1 of every topic;
// every fourth is aborted and its values begin with "aborted/". Java and Confluent
// have such a program.
func Transact(ctx context.Context, f Family, bootstrap []string, id string, topics []string, count int) error {
	dir, err := source()
	if err != nil {
		return err
	}
	args := []string{"--bootstrap", strings.Join(bootstrap, ","), "--id", id, "--topics", strings.Join(topics, ","), "--count", strconv.Itoa(count)}
	var cmd *exec.Cmd
	switch f {
	case Java:
		cp, err := testkit.JavaClassPath(testkit.Kafka43)
		if err != nil {
			return err
		}
		cmd = exec.CommandContext(ctx, "java", append([]string{"-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData",
			"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", cp, filepath.Join(dir, "java", "Transact.java")}, args...)...)
	case Confluent:
		cache, err := testkit.CacheDir()
		if err != nil {
			return err
		}
		cmd = exec.CommandContext(ctx, filepath.Join(cache, "clients-python", "bin", "python3"),
			append([]string{"-B", filepath.Join(dir, "python", "transact.py")}, args...)...)
	default:
		return fmt.Errorf("clients: %s has no program for transactions", f)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("clients: transactions of %s: %w: %s", f, err, out)
	}
	return nil
}
