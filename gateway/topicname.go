package gateway

import (
	"fmt"
	"strings"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// maxTopicName is Kafka's: a directory name of 255 less partition number and suffix.
const maxTopicName = 249

// checkTopicName returns why Kafka would refuse name for a topic of the
// tenant, nil if it would not.
func checkTopicName(name string) error {
	detail := ""
	switch {
	case name == "":
		detail = "Topic name is invalid: the empty string is not allowed"
	case name == "." || name == "..":
		detail = `Topic name is invalid: topic name cannot be "." or ".."`
	case len(name) > maxTopicName:
		detail = fmt.Sprintf("Topic name is invalid: the length of '%.32s…' is longer than the max allowed length %d", name, maxTopicName)
	case !legalTopicChars(name):
		detail = "Topic name is invalid: it contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
	}
	if detail == "" {
		return nil
	}
	return &span.RejectedError{Code: wire.InvalidTopicException, Detail: detail}
}

func legalTopicChars(name string) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// mayCollide tells whether another name can collide with this one: metric
// names cannot tell '.' from '_'.
func mayCollide(name string) bool { return strings.ContainsAny(name, "._") }

// collides tells whether two names are the same but for '.' and '_'.
func collides(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		x, y := a[i], b[i]
		if x != y && !(x == '.' && y == '_' || x == '_' && y == '.') {
			return false
		}
	}
	return true
}

// internalTopic tells whether a name is one that Kafka keeps for itself. A
// tenant may own such names only if the catalog has them already.
func internalTopic(name string) bool {
	switch name {
	case "__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata":
		return true
	}
	return false
}

// ownTopics is what the names of Braid's own internal topics begin with.
const ownTopics = "__braid_"

// reservedTopic tells whether a name is none that anybody may give to a topic: those of internal topics, Kafka's and
// Braid's, and what metrics could not tell from them ('.' for '_'). Topics of such names that are there already
// are served as any other.
func reservedTopic(name string) bool {
	if len(name) > maxTopicName {
		return false // it is no name at all
	}
	plain := strings.ReplaceAll(name, ".", "_")
	return internalTopic(plain) || strings.HasPrefix(plain, ownTopics)
}
