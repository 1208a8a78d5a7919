package clients

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/braidstream/braid/internal/testkit"
)

// A Family is a client program.
type Family string

const (
	Java        Family = "java"         // kafka-clients
	KafkaPython Family = "kafka-python" // pure Python
	Confluent   Family = "confluent"    // librdkafka from Python
	KafkaJS     Family = "kafkajs"      // Node
	Kcat        Family = "kcat"         // the distribution's librdkafka
	Franz       Family = "franz-go"
)

// Families lists all programs.
func Families() []Family { return []Family{Java, KafkaPython, Confluent, KafkaJS, Kcat, Franz} }

// source is this package's directory in the tree, from which the interpreted programs
// run: tests start in a directory of the tree.
func source() (string, error) {
	at, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("clients: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			return filepath.Join(at, "internal", "clients"), nil
		}
		up := filepath.Dir(at)
		if up == at {
			return "", errors.New("clients: the programs are run from within the source tree")
		}
		at = up
	}
}

// command builds a family's command line. kcat's is different: see kcatProduce and kcatConsume.
func command(ctx context.Context, f Family, args ...string) (*exec.Cmd, error) {
	dir, err := source()
	if err != nil {
		return nil, err
	}
	cache, err := testkit.CacheDir()
	if err != nil {
		return nil, err
	}
	installed := func(path string) error {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("clients: %s: %w", f, testkit.ErrNotInstalled)
		}
		return nil
	}
	switch f {
	case Java:
		classes := filepath.Join(cache, "clients-java")
		if err := installed(classes); err != nil {
			return nil, err
		}
		cp, err := testkit.JavaClassPath(testkit.Kafka43)
		if err != nil {
			return nil, err
		}
		return exec.Command("java", append([]string{
			"-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData",
			"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", cp + ":" + classes, "Client",
		}, args...)...), nil
	case KafkaPython, Confluent:
		python := filepath.Join(cache, "clients-python", "bin", "python3")
		if err := installed(python); err != nil {
			return nil, err
		}
		program := map[Family]string{KafkaPython: "kafka_python.py", Confluent: "confluent.py"}[f]
		// -B: no compiled files in the tree.
		return exec.Command(python, append([]string{"-B", filepath.Join(dir, "python", program)}, args...)...), nil
	case KafkaJS:
		modules := filepath.Join(cache, "clients-node", "node_modules")
		if err := installed(modules); err != nil {
			return nil, err
		}
		cmd := exec.Command("node", append([]string{filepath.Join(dir, "node", "client.js")}, args...)...)
		cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
		return cmd, nil
	case Franz:
		bin, err := buildFranz(ctx, dir)
		if err != nil {
			return nil, err
		}
		return exec.Command(bin, args...), nil
	}
	return nil, fmt.Errorf("clients: no family %q", f)
}

// franz holds the Go program, built once by a test binary. It is built into the cache under the
// process's own name, and removed by the next build: no test binary has a last moment of its own.
var franz struct {
	sync.Mutex
	bin string
}

func buildFranz(ctx context.Context, dir string) (string, error) {
	franz.Lock()
	defer franz.Unlock()
	if franz.bin != "" {
		return franz.bin, nil
	}
	cache, err := testkit.CacheDir()
	if err != nil {
		return "", err
	}
	to := filepath.Join(cache, "clients-go")
	if err := os.MkdirAll(to, 0o755); err != nil {
		return "", fmt.Errorf("clients: %w", err)
	}
	// Built aside and moved into place, so that test binaries that build at once do not meet.
	building := filepath.Join(to, "franz."+strconv.Itoa(os.Getpid()))
	build := exec.CommandContext(ctx, "go", "build", "-o", building, "./franz")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("clients: build the Go program: %w: %s", err, out)
	}
	bin := filepath.Join(to, "franz")
	if err := os.Rename(building, bin); err != nil {
		return "", fmt.Errorf("clients: %w", err)
	}
	franz.bin = bin
	return bin, nil
}

// kcatArgs are common to both directions. Reconnects are as quick as the other families'.
func kcatArgs(o Options) []string {
	return []string{
		"-b", o.Bootstrap, "-q", "-u", "-X", "reconnect.backoff.max.ms=500", "-X", "topic.metadata.refresh.interval.ms=1000",
	}
}

// kcatProduce sends the lines of its input to one partition: kcat has no other way to name one.
func kcatProduce(o Options, partition int) *exec.Cmd {
	args := append(kcatArgs(o), "-P", "-t", o.Topic, "-p", strconv.Itoa(partition),
		"-X", "acks=all", "-X", "enable.idempotence=true", "-X", "message.timeout.ms=300000")
	return exec.Command("kcat", args...)
}

func kcatConsume(o Options) *exec.Cmd {
	args := append(kcatArgs(o), "-X", "auto.offset.reset=earliest", "-X", "auto.commit.interval.ms=1000",
		"-f", `{"partition":%p,"offset":%o,"value":"%s"}`+"\n", "-G", o.Group, o.Topic)
	return exec.Command("kcat", args...)
}
