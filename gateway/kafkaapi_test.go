package gateway

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/wire"
)

// Why a key of Apache Kafka is not served.
const (
	internalKey = "spoken among brokers and controllers only"
	noTokens    = "delegation tokens are not issued: a user has credentials, or a token of an OIDC issuer"
	noTelemetry = "client metrics are not collected; clients send none to a broker that does not offer this"
	noShare     = "share groups (KIP-932) come in a later release"
	noStreams   = "streams groups (KIP-1071) come in a later release"
	noRaft      = "there is no Raft quorum whose members could change"
)

var unserved = map[int16]string{
	4: internalKey, 5: internalKey, 6: internalKey, 7: internalKey,
	38: noTokens, 39: noTokens, 40: noTokens, 41: noTokens,
	52: internalKey, 53: internalKey, 54: internalKey, 56: internalKey, 58: internalKey, 59: internalKey,
	62: internalKey, 63: internalKey, 64: "a gateway that is gone is forgotten with its lease", 67: internalKey, 70: internalKey, 73: internalKey,
	71: noTelemetry, 72: noTelemetry,
	76: noShare, 77: noShare, 78: noShare, 79: noShare, 90: noShare, 91: noShare, 92: noShare,
	80: noRaft, 81: noRaft, 82: internalKey,
	83: internalKey, 84: internalKey, 85: internalKey, 86: internalKey, 87: internalKey,
	88: noStreams, 89: noStreams,
}

// head is how the file of a key begins.
var head = regexp.MustCompile(`^// (\w+), key (\d+), versions? (\d+)(?: to (\d+))?\b`)

// keyFile is what the comment at the head of a key's file says.
type keyFile struct {
	name     string
	min, max int16
	differs  string
}

// keyFiles reads the heads of this package's files.
func keyFiles(t *testing.T) map[int16]keyFile {
	t.Helper()
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	out := map[int16]keyFile{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(text), "\n")
		at := slices.IndexFunc(lines, head.MatchString)
		if at < 0 {
			continue
		}
		m := head.FindStringSubmatch(lines[at])
		number := func(s string) int16 {
			n, err := strconv.ParseInt(s, 10, 16)
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			return int16(n)
		}
		f := keyFile{name: m[1], min: number(m[3])}
		f.max = f.min
		if m[4] != "" {
			f.max = number(m[4])
		}
		f.differs = differences(lines[at:])
		if _, twice := out[number(m[2])]; twice {
			t.Errorf("%s: key %s has another file too", path, m[2])
		}
		out[number(m[2])] = f
	}
	return out
}

// differences is the paragraph of a comment that begins with "Difference:" or "Differences:".
func differences(lines []string) string {
	var words []string
	in := false
	for _, l := range lines {
		l, comment := strings.CutPrefix(l, "//")
		l = strings.TrimSpace(l)
		if !comment || in && l == "" {
			break
		}
		for _, begin := range []string{"Differences:", "Difference:"} {
			if rest, ok := strings.CutPrefix(l, begin); ok {
				in, l = true, strings.TrimSpace(rest)
			}
		}
		if in {
			words = append(words, l)
		}
	}
	s := strings.Join(words, " ")
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// TestKafkaAPIPage holds docs/kafka-api.md to the table of keys and to the heads
// of their files.
func TestKafkaAPIPage(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("# The Kafka API\n\nGenerated from the code (`go test ./gateway -run TestKafkaAPIPage -update`): every key of Apache Kafka 4.3, the versions\n" +
		"that are served, and where an answer differs. What is not said to differ is as Apache Kafka 4.3 has it; tests compare\n" +
		"the answers. A client asks for this list itself (ApiVersions); a version of that request which is not known is answered\n" +
		"in version 0 with the list, so that clients of any age find what they have in common with Braid.\n\n" +
		"| key | name | versions | differs |\n|---|---|---|---|\n")
	files := keyFiles(t)
	served := newAPIs()
	for key := range int16(maxKey) {
		k, ok := wire.LookupAPI(key)
		a := served.find(key)
		if !ok || a == nil {
			continue
		}
		f, ok := files[key]
		delete(files, key)
		if !ok || f.name != k.Name || f.min != a.min || f.max != a.max {
			t.Errorf("key %d %s, versions %d to %d: the head of its file says %+v", key, k.Name, a.min, a.max, f)
		}
		fmt.Fprintf(&b, "| %d | %s | %s | %s |\n", key, k.Name, versionRange(a.min, a.max), cell(f.differs))
	}
	if len(files) > 0 {
		t.Errorf("files of keys that are not served: %v", files)
	}
	b.WriteString("\n## Not served\n\n| key | name | in Apache Kafka | why |\n|---|---|---|---|\n")
	for key := range int16(maxKey) {
		k, ok := wire.LookupAPI(key)
		if !ok || served.find(key) != nil {
			continue
		}
		why := unserved[key]
		if why == "" {
			t.Errorf("key %d %s is not served, and nothing says why", key, k.Name)
		}
		fmt.Fprintf(&b, "| %d | %s | %s | %s |\n", key, k.Name, versionRange(k.Min, k.Stable), cell(why))
	}
	var features []string
	for _, f := range served.features() {
		features = append(features, fmt.Sprintf("`%s` %d", f.name, f.max))
	}
	if len(features) == 0 {
		features = []string{"none"}
	}
	fmt.Fprintf(&b, "\nFeatures that ApiVersions tells: %s.\n", strings.Join(features, ", "))
	page := filepath.Join("..", "docs", "kafka-api.md")
	if *update {
		if err := os.WriteFile(page, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != b.String() {
		t.Error("docs/kafka-api.md is not what the code says: go test ./gateway -run TestKafkaAPIPage -update")
	}
}

func versionRange(from, to int16) string {
	switch {
	case to < from:
		return "none stable"
	case from == to:
		return fmt.Sprint(from)
	}
	return fmt.Sprintf("%d to %d", from, to)
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// kmsg knows the message definitions by the same numbers.
func TestNamesOfKeys(t *testing.T) {
	t.Parallel()
	for _, a := range servedAPIs() {
		if r := kmsg.RequestForKey(a.key); r == nil || r.MaxVersion() < a.max {
			t.Errorf("key %d: %T cannot say version %d", a.key, r, a.max)
		}
	}
}
