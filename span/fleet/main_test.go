package fleet_test

import (
	"os"
	"testing"

	"github.com/braidstream/braid/internal/testkit"
)

func TestMain(m *testing.M) { os.Exit(testkit.Main(m)) }
