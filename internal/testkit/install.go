package testkit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Versions of Apache Kafka that the install script provides.
const (
	Kafka43 = "4.3.1"
	Kafka39 = "3.9.2"
)

// ErrNotInstalled is returned when the cache directory lacks what a cluster or a client needs.
var ErrNotInstalled = errors.New("not installed: run scripts/install-test-deps.sh")

// CacheDir is where the install script keeps what it fetched: $BRAID_CACHE, else
// $XDG_CACHE_HOME/braid, else $HOME/.cache/braid. The script spells the same rule.
func CacheDir() (string, error) {
	if dir := os.Getenv("BRAID_CACHE"); dir != "" {
		return dir, nil
	}
	if dir := os.Getenv("XDG_CACHE_HOME"); dir != "" {
		return filepath.Join(dir, "braid"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the cache directory: %w", err)
	}
	return filepath.Join(home, ".cache", "braid"), nil
}

// JavaClassPath is the class path of one installed version of Apache Kafka, its clients included.
// The order of the jars is the one the class archive was made with.
func JavaClassPath(version string) (string, error) {
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	// Glob sorts, as the script's shell does under any locale for these names.
	jars, err := filepath.Glob(filepath.Join(cache, "kafka-"+version, "libs", "*.jar"))
	if err != nil {
		return "", fmt.Errorf("list the jars of Apache Kafka %s: %w", version, err)
	}
	if len(jars) == 0 {
		return "", fmt.Errorf("apache kafka %s in %s: %w", version, cache, ErrNotInstalled)
	}
	return strings.Join(jars, ":"), nil
}

// jvmOptions must agree with the install script's: an archive made with another collector is not mapped.
var jvmOptions = []string{
	"-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData",
	"-Dorg.slf4j.simpleLogger.logFile=System.out",
	"-Dorg.slf4j.simpleLogger.showDateTime=true",
	"-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
	"-Djava.awt.headless=true",
}

// java builds a command for a class of the given version of Apache Kafka.
func java(version string, extra []string, class string, args ...string) (*exec.Cmd, error) {
	bin, err := exec.LookPath("java")
	if err != nil {
		return nil, fmt.Errorf("java: %w", ErrNotInstalled)
	}
	cp, err := JavaClassPath(version)
	if err != nil {
		return nil, err
	}
	cache, err := CacheDir()
	if err != nil {
		return nil, err
	}
	argv := append([]string{}, jvmOptions...)
	archive := filepath.Join(cache, "kafka-"+version, "classes.jsa")
	if _, err := os.Stat(archive); err == nil {
		argv = append(argv, "-XX:SharedArchiveFile="+archive)
	}
	argv = append(argv, extra...)
	argv = append(argv, "-cp", cp, class)
	return exec.Command(bin, append(argv, args...)...), nil
}

// Java is a command for a class, or a source file, with the jars of the given
// version of Apache Kafka at hand. Nothing of it runs yet.
func Java(version, class string, args ...string) (*exec.Cmd, error) {
	return java(version, []string{"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"}, class, args...)
}
