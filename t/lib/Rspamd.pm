# Rspamd - a real rspamd with one worker, rules of the test's own, and nothing that needs a network.
#
#   Rspamd->find or plan skip_all => 'rspamd is not installed';
#   my $rspamd = Rspamd->start(<<'LUA');
#   rspamd_config.TEST = { callback = function(task) ... end, score = 1.0 }
#   LUA
#   ... socket @{[ $rspamd->addr ]} ...
package Rspamd;
use strict;
use warnings;
use IO::Socket::UNIX;
use TestUtil;

sub find { return (grep { -x } '/usr/bin/rspamd', '/usr/local/bin/rspamd')[0] }

sub start
{
	my ($class, $lua) = @_;
	my $self = bless { dir => temp_dir(), owner => $$, port => free_port() }, $class;
	my $dir = $self->{dir};

	write_file("$dir/rules.lua", $lua);
	write_file("$dir/tld", "example\n");
	write_file("$dir/conf", <<"CONF");
options {
  pidfile = "$dir/pid"; tempdir = "$dir"; hs_cache_dir = "$dir"; history_file = "$dir/history"; rrd = "";
  control_socket = "$dir/control mode=0600"; url_tld = "$dir/tld"; disable_hyperscan = true;
  filters = "regexp"; local_addrs = []; dns { nameserver = ["127.0.0.1:1"]; timeout = 0.1s; retransmits = 1; }
}
logging { type = "console"; level = "info"; }
worker "normal" { bind_socket = "127.0.0.1:$self->{port}"; bind_socket = "$dir/s mode=0666"; count = 1; }
actions { reject = 15; rewrite_subject = 8; add_header = 6; greylist = 4; discard = 100; quarantine = 50; subject = "*** %s"; }
lua = "$dir/rules.lua";
CONF
	chown((getpwnam 'nobody')[2, 3], "$dir") if is_root();
	return $self->run;
}

sub run
{
	my ($self) = @_;
	my @user = is_root() ? ('-u', 'nobody', '-g', (getgrgid((getpwnam 'nobody')[3]))[0]) : ();

	$self->{pid} = start_process("$self->{dir}/log", $self->find, '-f', '-i', '-c', "$self->{dir}/conf", @user);
	wait_until { IO::Socket::UNIX->new(Peer => "$self->{dir}/s") } 30
	    or die 'rspamd does not start: ' . read_file("$self->{dir}/log");
	return $self;
}

sub addr { return "127.0.0.1:$_[0]{port}" }
sub unix { return "unix:$_[0]{dir}/s" }
sub log { return read_file("$_[0]{dir}/log") // '' }
sub stop { my ($self) = @_; stop_process(delete $self->{pid}, 20) if $self->{pid}; return }

sub DESTROY { my ($self) = @_; local $?; $self->stop if $self->{owner} == $$; return }

1;
