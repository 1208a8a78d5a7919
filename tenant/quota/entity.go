// Package quota decides how much of a cluster a client may use: Kafka's client
// quotas (KIP-13, KIP-55, KIP-124, KIP-546, KIP-599, KIP-612), whom they are for and how
// long a client has to wait that has used more. It knows no clock and does no I/O.
package quota

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/internal/nearest"
)

// The quotas that an entity may have, by Kafka's names.
const (
	ProducerByteRate       = "producer_byte_rate"       // bytes/s
	ConsumerByteRate       = "consumer_byte_rate"       // bytes/s
	RequestPercentage      = "request_percentage"       // of one thread's time
	ControllerMutationRate = "controller_mutation_rate" // partitions/s
	ConnectionCreationRate = "connection_creation_rate" // connections/s, of addresses only
)

// The types of entities.
const (
	UserEntity     = "user"
	ClientIDEntity = "client-id"
	IPEntity       = "ip"
)

// ErrInvalid is the kind of every refusal of an entity or a value.
var ErrInvalid = errors.New("invalid quota")

// InvalidError says what is wrong, in words for who asked.
type InvalidError struct{ Detail string }

func (e *InvalidError) Error() string        { return e.Detail }
func (e *InvalidError) Is(target error) bool { return target == ErrInvalid }

func invalid(format string, args ...any) error { return &InvalidError{fmt.Sprintf(format, args...)} }

// maxName bounds the name of an entity, bytes.
const maxName = 4096

// Names lists the quotas that an entity may have, sorted.
func Names(entity []catalog.EntityPart) []string {
	for _, p := range entity {
		if p.Type == IPEntity {
			return []string{ConnectionCreationRate}
		}
	}
	return []string{ConsumerByteRate, ControllerMutationRate, ProducerByteRate, RequestPercentage}
}

// CheckEntity tells why nothing can be set for an entity.
func CheckEntity(entity []catalog.EntityPart) error {
	if len(entity) == 0 {
		return invalid("Invalid empty client quota entity")
	}
	seen := map[string]bool{}
	for _, p := range entity {
		switch {
		case p.Type != UserEntity && p.Type != ClientIDEntity && p.Type != IPEntity:
			return invalid("Unhandled client quota entity type: %.60q", p.Type)
		case seen[p.Type]:
			return invalid("Invalid client quota entity, duplicate entity entry %s", p.Type)
		case p.Name != nil && *p.Name == "":
			return invalid("Empty %s not supported", p.Type)
		case p.Name != nil && len(*p.Name) > maxName:
			return invalid("The name of a %s is longer than %d bytes", p.Type, maxName)
		case p.Name != nil && strings.ContainsFunc(*p.Name, func(r rune) bool { return r < 0x20 || r == 0x7f }):
			return invalid("A control character in the name of a %s", p.Type)
		}
		seen[p.Type] = true
		if p.Type == IPEntity && p.Name != nil {
			// Kafka resolves names of hosts; here an address is wanted, which means one thing.
			if _, err := netip.ParseAddr(*p.Name); err != nil {
				return invalid("%.60q is not a valid IP address", *p.Name)
			}
		}
	}
	if seen[IPEntity] && len(seen) > 1 {
		return invalid("Invalid quota entity combination, IP entity should not be combined with User or ClientId")
	}
	return nil
}

// CheckValue tells why a quota of an entity cannot have a value.
func CheckValue(entity []catalog.EntityPart, key string, value float64) error {
	known := Names(entity)
	if !slices.Contains(known, key) {
		hint := strings.Join(known, ", ")
		if n := nearest.Name(key, known); n != "" {
			hint = "did you mean " + n + "?"
		}
		return invalid("Invalid configuration key %.60q (%s)", key, hint)
	}
	switch {
	case math.IsNaN(value) || value <= 0:
		return invalid("Quota %s must be greater than 0", key)
	case math.IsInf(value, 0):
		return invalid("Quota %s must be a number", key)
	}
	switch key {
	case ProducerByteRate, ConsumerByteRate, ConnectionCreationRate:
		most := float64(math.MaxInt64)
		if key == ConnectionCreationRate {
			most = math.MaxInt32
		}
		if value > most {
			return invalid("Proposed value for %s is too large", key)
		}
		if math.Mod(value, 1) > 1e-6 {
			return invalid("%s cannot be a fractional value.", key)
		}
	}
	return nil
}

// Change sets and removes quotas of one entity; nil removes.
type Change struct {
	Entity []catalog.EntityPart
	Values map[string]*float64
}

// Apply gives the values of an entity after a change.
func (c Change) Apply(now map[string]float64) (map[string]float64, error) {
	if err := CheckEntity(c.Entity); err != nil {
		return nil, err
	}
	next := maps.Clone(now)
	if next == nil {
		next = map[string]float64{}
	}
	for _, key := range slices.Sorted(maps.Keys(c.Values)) {
		v := c.Values[key]
		if v == nil {
			// What no entity could ever have is a slip, not a removal.
			if err := CheckValue(c.Entity, key, 1); err != nil {
				return nil, err
			}
			delete(next, key)
			continue
		}
		if err := CheckValue(c.Entity, key, *v); err != nil {
			return nil, err
		}
		next[key] = *v
	}
	return next, nil
}

// Text is an entity as people read it: user=alice, client-id=<default>.
func Text(entity []catalog.EntityPart) string {
	sorted := slices.SortedFunc(slices.Values(entity), func(a, b catalog.EntityPart) int { return -strings.Compare(a.Type, b.Type) })
	var parts []string
	for _, p := range sorted {
		name := "<default>"
		if p.Name != nil {
			name = *p.Name
		}
		parts = append(parts, p.Type+"="+name)
	}
	return strings.Join(parts, ", ")
}
