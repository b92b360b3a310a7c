# TestProxy - a postern with a configuration of its own, in a temporary folder.
#
#   my $proxy = TestProxy->start(<<"CONF");
#   listener front { listen 127.0.0.1:0; backend inner }
#   backend  inner { hosts @{[ $sink->addr ]} }
#   CONF
#   my $c = $proxy->client;                 # SmtpClient at the only (or named) listener
#   ok $proxy->wait_log(qr/ msg .*verdict=pass/);
#
# A `user` (nobody, when the test runs as root) and a spool folder are added when the configuration names
# none. "%d" in it stands for the temporary folder.
#
# POSTERN_WRAP wraps the program: POSTERN_WRAP="valgrind -q". POSTERN_TEST_ADDR=127.0.0.1:10025 uses a
# postern that you start yourself, in a debugger say: the test says with which configuration and waits.
package TestProxy;
use strict;
use warnings;
use Cwd 'abs_path';
use LogEvents;
use POSIX ();
use Scalar::Util 'weaken';
use SmtpClient;
use TestUtil;

my @started;	# weak, to stop what is left when a test ends
my $complaints = 0;

# %opt: folders (made below ours, for a maildir say), args (more of the command line), no_wait (do not
# wait for the listeners), env (of the process), limit (of the process, as for the shell: '-n 100'),
# daemon (in the background, with pid file and log file in its folder).
sub start
{
	my ($class, $conf, %opt) = @_;
	my $self = bless { dir => temp_dir(), owner => $$, addrs => {}, is_daemon => $opt{daemon} }, $class;

	$conf .= "\npid_file %d/pid\nlog { to %d/log }\n" if $opt{daemon};
	push @started, $self;
	weaken $started[-1];
	mkdir "$self->{dir}/$_" for @{ $opt{folders} // [] };
	$self->write_conf($conf);
	return $self->attach($ENV{POSTERN_TEST_ADDR}) if $ENV{POSTERN_TEST_ADDR};
	$self->run(%opt);
	$self->wait_listeners unless $opt{no_wait};
	return $self;
}

sub dir { return "$_[0]{dir}" }
sub pid { return $_[0]{pid} }
sub conf_file { return "$_[0]{dir}/postern.conf" }

# The program to run: POSTERN, or the one just built. When the user that postern becomes cannot reach the
# build folder (a clone below /root), a copy beside our configuration.
sub program
{
	my ($self) = @_;
	my $program = $ENV{POSTERN} // builddir() . '/postern';

	return $program if !is_root() || is_reachable(abs_path($program) // $program);
	mkdir "$self->{dir}/bin", 0755;
	system 'cp', '--update', $program, "$program-helper", "$self->{dir}/bin";
	return "$self->{dir}/bin/postern";
}

# May everybody pass through all folders on the way?
sub is_reachable
{
	my ($path) = @_;

	while ($path =~ s{/[^/]+\z}{}) {
		return 0 if $path ne '' && !((stat $path)[2] & 1);
	}
	return 1;
}

sub log { return read_file("$_[0]{dir}/log") // '' }

sub write_conf
{
	my ($self, $conf) = @_;
	my $dir = $self->{dir};

	$conf =~ s/%d/$dir/g;
	$conf = "user nobody\n$conf" if is_root() && $conf !~ /^\s*user\s/m;
	unless ($conf =~ /^\s*spool\b/m) {
		mkdir "$dir/spool", 0700 unless -d "$dir/spool";
		$conf .= "\nspool { directory $dir/spool }\n";
	}
	if ($ENV{POSTERN_TEST_ADDR}) {
		$conf =~ s/\b127\.0\.0\.1:0\b/$ENV{POSTERN_TEST_ADDR}/;
	}
	$self->{conf} = $conf;
	write_file($self->conf_file, $conf, 0644);
	$self->give_away;
	return;
}

# What lies in our folder belongs to the user that postern becomes.
sub give_away
{
	my ($self) = @_;

	return unless is_root();
	my ($user) = $self->{conf} =~ /^\s*user\s+([^\s;#]+)/m;
	my ($uid, $gid) = (getpwnam($user // 'nobody'))[2, 3];
	chown $uid, $gid, grep { -d } "$self->{dir}", glob "$self->{dir}/*" if defined $uid;
	return;
}

sub run
{
	my ($self, %opt) = @_;
	my @wrap = split ' ', $ENV{POSTERN_WRAP} // '';
	my @argv = (@wrap, $self->program, '-c', $self->conf_file, '-f', @{ $opt{args} // [] });
	unshift @argv, 'sh', '-c', "ulimit $opt{limit} && exec \"\$@\"", 'sh' if $opt{limit};

	local %ENV = (%ENV, %{ $opt{env} // {} });
	$self->{from} = length $self->log;
	return $self->run_daemon(@argv) if $self->{is_daemon};
	$self->{pid} = start_process("$self->{dir}/log", @argv);
	return;
}

sub run_daemon
{
	my ($self, @argv) = @_;
	my $start = start_process("$self->{dir}/out", grep { $_ ne '-f' } @argv);

	waitpid $start, 0;
	$self->{status} = $?;
	($self->{pid}) = (read_file("$self->{dir}/pid") // '') =~ /^(\d+)\n\z/;
	die 'postern does not start: ' . read_file("$self->{dir}/out") unless $self->{pid};
	return;
}

# Starts again after stop() or kill(), on the same ports.
sub restart
{
	my ($self, %opt) = @_;

	$self->stop;
	for my $name (keys %{ $self->{addrs} }) {
		my $before = qr/listener\s+\Q$name\E\b[^}]*?\blisten\s+/;
		$self->{conf} =~ s/($before)127\.0\.0\.1:0\b/$1$self->{addrs}{$name}/;
	}
	write_file($self->conf_file, $self->{conf}, 0644);
	$self->run(%opt);
	$self->wait_listeners unless $opt{no_wait};
	return $self;
}

# Waits until it is ready, and for one line per listener of the configuration; they tell the ports.
sub wait_listeners
{
	my ($self) = @_;
	my $wanted = () = $self->{conf} =~ /^\s*listener\b/mg;
	my $fresh = sub { return substr $self->log, $self->{from} };

	my $up = wait_until {
		my $count = () = $fresh->() =~ /\blisten .*\baddress=\S+/g;
		($count >= $wanted && $fresh->() =~ /^(?:\S+ )?info a ready /m) || !$self->is_running;
	} 20;
	die "postern does not start:\n" . $self->log unless $up && $self->is_running;
	for my $line (split /\n/, $fresh->()) {
		my ($address) = $line =~ /\blisten .*\baddress=(\S+)/ or next;
		my ($name) = $line =~ /\blistener=(\S+)/;
		$self->{addrs}{ $name // '' } //= $address;
		$self->{first} //= $address;
	}
	$self->wait_backends;
	return;
}

# The engine waits for the first word of its hosts, but not for long, and what they offer is not known before. A short
# wait, and no fault: a host may be silent, or the log not tell.
sub wait_backends
{
	my ($self) = @_;
	my @wanted = $self->{conf} =~ /^\s*backend\s+(\S+)\s*\{[^}]*\bhosts\b/mg;

	wait_until {
		my $log = substr $self->log, $self->{from};
		!grep { $log !~ /\bbackend"?[=:]"?\Q$_\E"?[ ,]"?state\b/ } @wanted;
	} 1 / $TestUtil::PATIENCE;
	return;
}

# Writes another configuration and asks for it; %opt: signal (HUP), no_wait. Ports that were chosen stay, because
# "127.0.0.1:0" of a listener that goes on is the same socket. Returns how it ended: "done" or "kept".
sub reload
{
	my ($self, $conf, %opt) = @_;
	my $from = length $self->log;

	$self->write_conf($conf) if defined $conf;
	$self->signal($opt{signal} // 'HUP');
	return if $opt{no_wait};
	return $self->wait_reload($from);
}

# How the reload ended of which the log speaks behind this octet.
sub wait_reload
{
	my ($self, $from) = @_;

	return wait_until { substr($self->log, $from) =~ /^\S+ m reload state=(done|kept) /m && $1 } 20;
}

# Where a listener stands that has come with a reload.
sub find_addr
{
	my ($self, $name) = @_;

	return $self->{addrs}{$name} = ($self->log =~ / listen listener=\Q$name\E address=(\S+)/g)[-1];
}

# A postern that someone else runs.
sub attach
{
	my ($self, $addr) = @_;

	print STDERR "# start it now: postern -c " . $self->conf_file . " -f\n";
	wait_port($addr, 600) or die "nobody listens at $addr";
	@$self{qw(first attached)} = ($addr, 1);
	return $self;
}

# HOST:PORT or unix:PATH of a listener, or of the first one.
sub addr
{
	my ($self, $name) = @_;

	return $self->{first} unless defined $name;
	return $self->{addrs}{$name} // $self->{first};
}

# HOST:PORT of the health port (the Nth).
sub health_addr
{
	my ($self, $n) = @_;
	my @all = substr($self->log, $self->{from} // 0) =~ / health address=(\S+)/g;

	return $all[ $n // 0 ];
}

sub port { my ($self, $name) = @_; return $self->addr($name) =~ s/.*://r }

# A client that has taken the greeting. %opt goes to SmtpClient.
sub client
{
	my ($self, $name, %opt) = @_;

	return SmtpClient->connect($self->addr($name), %opt);
}

sub is_running
{
	my ($self) = @_;

	return $self->{attached} unless $self->{pid};
	return kill 0, $self->{pid} if $self->{is_daemon};
	local $?;
	if (waitpid($self->{pid}, POSIX::WNOHANG()) == $self->{pid}) {
		$self->{status} = $?;
		delete $self->{pid};
		return 0;
	}
	return 1;
}

sub wait_log
{
	my ($self, $pattern, $timeout) = @_;

	return wait_until { $self->log =~ $pattern } $timeout;
}

# The summary lines, as hashes of their keys.
sub summaries
{
	my ($self) = @_;

	return map { fields($_) } grep { / msg (?=.*\bverdict=)/ } split /\n/, $self->log;
}

# key=value and key="va\"lue" of one log line.
sub fields
{
	my ($line) = @_;
	my %field;

	while ($line =~ /(?:\A| )([a-z_]+)=(?:"((?:[^"\\]|\\.)*)"|(\S*))/g) {
		my ($key, $quoted, $plain) = ($1, $2, $3);
		$field{$key} = defined $quoted ? $quoted =~ s/\\(["\\])/$1/gr : $plain;
	}
	return \%field;
}

# Waits for the Nth summary line and returns it.
sub wait_summary
{
	my ($self, $n, $timeout) = @_;

	$n //= 1;
	return wait_until { ($self->summaries)[$n - 1] } $timeout;
}

# The summary line of a client's next transaction: of the first when it is asked for the first time, and so on. A
# reply comes before its line, so lines are not to be counted beforehand. The system gives a port out again, but not
# soon for the same listener.
sub summary_of
{
	my ($self, $client, $timeout) = @_;
	my $n = $client->{summaries}++;
	my $is_its = sub { my ($line) = @_;
		return ($line->{client} // '') =~ /:$client->{port}$/ && $self->addr($line->{listener}) =~ /:$client->{to_port}$/ };

	return wait_until { (grep { $is_its->($_) } $self->summaries)[$n] } $timeout;
}

# Process ids of the monitor's children.
sub children { my ($self) = @_; return split ' ', `pgrep -P $self->{pid} 2>/dev/null` }

sub signal { my ($self, $name) = @_; return kill $name, $self->{pid} }

# Orderly, then by force. Returns the wait status (0: it ended by itself and was content).
sub stop
{
	my ($self) = @_;

	if ($self->{is_daemon} && $self->{pid}) { # nobody's child
		my $pid = delete $self->{pid};
		kill 'TERM', $pid;
		wait_until { !kill 0, $pid } 30 or kill 'KILL', -$pid, $pid;
		$self->{status} = 0;
	}
	$self->{status} = stop_process(delete $self->{pid}, 30) if $self->{pid};
	$self->keep_ports;
	return $self->{status} // 0;
}

sub keep_ports { my ($self) = @_; $self->{places} = [ map { keep_port($_) } grep { defined } values %{ $self->{addrs} } ]; return }

# At once, with everything it started: a power cut.
sub kill_all
{
	my ($self) = @_;
	my $pid = delete $self->{pid} or return;

	kill 'KILL', $_ for $pid, split ' ', `pgrep -s $pid 2>/dev/null`;
	local $?;
	waitpid $pid, 0;
	$self->keep_ports;
	return;
}

sub DESTROY
{
	my ($self) = @_;

	$self->finish if ($self->{owner} // 0) == $$;
	return;
}

# What is not a line of the log, but comes before there is one, or from a wrapper.
my $not_logged = qr/^(?:postern: |\S+:\d+:\d+: |\/\S+: |==\d+== |usage:|\s|#|$)/;

# Stops it and looks at its last words; and at every line it ever wrote: each must be in doc/log-lines.md.
sub finish
{
	my ($self) = @_;

	return if $self->{finished}++;
	local $?;
	$self->stop;
	my @lines = $self->log =~ /^.*(?:runtime error:|\wSanitizer|^==\d+== ).*$/mg;
	for my $line (@lines ? () : $self->log =~ /^(.+)\n/mg) {
		next if $line =~ $not_logged;
		my $fault = LogEvents::fault($line) // next;
		push @lines, "a line $fault: $line";
	}
	print STDERR map { "# $_\n" } @lines;
	$complaints += @lines;
	return;
}

# What a sanitizer or valgrind said must not go unseen, whatever the test looked at.
END {
	$_->finish for grep { defined && $_->{owner} == $$ } @started;
	$? ||= 1 if $complaints;
}

1;
